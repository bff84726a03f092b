/* Search without a server: a browser starts no worker from file:, so a hidden frame runs the worker's script there.
   Only what the search needs: postMessage in both directions, and importScripts. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.frame = frame.contentWindow
      window.addEventListener("message", event => {
        if (event.source === this.frame) this.dispatchEvent(new MessageEvent("message", { data: event.data }))
      })
      const page = this.frame.document
      page.open()
      page.write("<!doctype html><title>search</title><body></body>")
      page.close()
      this.frame.postMessage = data => window.dispatchEvent(
        new MessageEvent("message", { data, source: this.frame }))
      const load = source => new Promise((resolve, reject) => {
        const script = page.createElement("script")
        script.src = source
        script.onload = resolve
        script.onerror = reject
        page.body.appendChild(script)
      })
      this.frame.importScripts = (...sources) => sources.reduce((done, s) => done.then(() => load(s)), Promise.resolve())
      this.ready = load(url)
    }
    postMessage(data) {
      this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() {}
  }
}
