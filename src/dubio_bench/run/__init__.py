"""How steps are run: in this process or on Ray, once each, resumed after a kill."""
