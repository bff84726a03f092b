"use strict";
(() => {
  const box = document.querySelector(".answering");
  const steps = JSON.parse(box.dataset.steps);
  const dial = box.querySelector("input");
  const frame = box.querySelector(".frame");
  const line = frame.querySelector(".budget");
  const name = line.querySelector("span");
  const words = box.querySelector("output");
  let point = frame.querySelector(".dot.here");
  if (!point) {
    point = document.createElement("span");
    point.className = "dot here";
    frame.append(point);
  }
  const show = () => {
    const step = steps[dial.value];
    line.style.bottom = step.height + "%";
    name.textContent = "budget " + step.budget;
    point.hidden = !step.point;
    if (step.point) [point.style.left, point.style.bottom] = step.point.map((at) => at + "%");
    words.textContent = step.words;
    dial.setAttribute("aria-valuetext", step.words);
  };
  const near = (event) => {
    const area = frame.getBoundingClientRect();
    const height = (100 * (area.bottom - event.clientY)) / area.height;
    const away = steps.map((step) => Math.abs(step.height - height));
    dial.value = away.indexOf(Math.min(...away));
    show();
  };
  frame.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" && !event.target.closest(".budget")) return; // a finger that scrolls the page
    frame.setPointerCapture(event.pointerId);
    near(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) near(event);
  });
  dial.addEventListener("input", show);
  box.querySelector(".dial").hidden = false;
  frame.classList.add("live");
  show();
  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...folded()].filter((part) => part.classList.contains("paper"));
    opened.forEach((part) => (part.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((part) => (part.open = false)));
})();
