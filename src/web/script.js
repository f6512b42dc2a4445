// Keeps the page current: fetches it again and puts in what changed. Without it the numbers are those of the last load.
"use strict";
(() => {
  const EVERY = 5000;
  const alarm = document.getElementById("connection");
  const old = document.getElementById("old");
  // All times of the page are in one zone, and the browser may be in another.
  const clock = clockOf(document.body.dataset.zone);
  let answered = new Date();

  async function refresh() {
    try {
      const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(EVERY) });
      if (!answer.ok) throw new Error(answer.status);
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      answered = new Date();
      age();
      alarm.hidden = true;
      document.body.classList.remove("stale");
    } catch {
      const text = `No answer from the service since ${clock.format(answered)}: what is shown is old.`;
      if (alarm.textContent !== text) alarm.textContent = text;
      alarm.hidden = false;
      document.body.classList.add("stale");
      document.title = "No answer · stream-processor";
    }
    setTimeout(refresh, EVERY);
  }

  function clockOf(zone) {
    try {
      return new Intl.DateTimeFormat("en-GB", { timeStyle: "long", timeZone: zone });
    } catch {
      // An older browser may not know the zone. The text then names UTC.
      return clockOf("UTC");
    }
  }

  // The age of what is shown, in sight all the time.
  function age() {
    const seconds = Math.round((Date.now() - answered) / 1000);
    const text = seconds < 120 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
    old.textContent = `Loaded ${text} ago.`;
  }
  setInterval(age, 1000);

  function replace(fresh) {
    document.title = fresh.title;
    const icon = document.querySelector("link[rel=icon]");
    const next = fresh.querySelector("link[rel=icon]").getAttribute("href");
    if (icon.getAttribute("href") !== next) icon.setAttribute("href", next);
    const open = [...document.querySelectorAll("details[open]")].map((part) => part.id);
    for (const part of document.querySelectorAll("[data-live]")) update(part, fresh.getElementById(part.id));
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    for (const chart of document.querySelectorAll(".chart")) point(chart);
  }

  // Changes only what differs: focus stays where it is, and a screen reader is told only of what is new.
  function update(old, fresh) {
    if (!fresh || old.isEqualNode(fresh)) return;
    const same = old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName;
    if (!same || old.childNodes.length !== fresh.childNodes.length) {
      old.replaceWith(document.importNode(fresh, true));
    } else if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
    } else {
      for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      const children = [...fresh.childNodes];
      [...old.childNodes].forEach((child, index) => update(child, children[index]));
    }
  }

  // The value under the pointer, or under the arrow keys.
  const places = new Map();
  function point(chart) {
    const back = places.get(chart.id);
    const [output, cursor] = [chart.querySelector("output"), chart.querySelector(".cursor")];
    if (back === undefined) {
      output.textContent = "";
      cursor.setAttribute("d", "");
      return;
    }
    const { width, height } = chart.querySelector("svg").viewBox.baseVal;
    const at = clock.format((chart.dataset.end - back * chart.dataset.interval) * 1000);
    const values = [...chart.querySelectorAll(".line")].map((line) => {
      const value = JSON.parse(line.dataset.values).at(-1 - back);
      return `${line.dataset.label} ${value ?? "unknown"} ${chart.dataset.unit}`;
    });
    cursor.setAttribute("d", `M${width - back} 0V${height}`);
    output.textContent = `${at}: ${values.join(", ")}`;
  }

  for (const chart of document.querySelectorAll(".chart")) {
    const go = (back) => {
      const most = JSON.parse(chart.querySelector(".line").dataset.values).length - 1;
      if (back === undefined || most < 0) places.delete(chart.id);
      else places.set(chart.id, Math.max(0, Math.min(most, back)));
      point(chart);
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.querySelector("svg").getBoundingClientRect();
      const share = (event.clientX - box.left) / box.width;
      const width = chart.querySelector("svg").viewBox.baseVal.width;
      go(share < 0 || share > 1 ? undefined : Math.round((1 - share) * width));
    });
    chart.addEventListener("pointerleave", () => go(undefined));
    chart.addEventListener("focusout", () => go(undefined));
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: 1, ArrowRight: -1, PageUp: 12, PageDown: -12 }[event.key];
      if (!step) return;
      event.preventDefault();
      go((places.get(chart.id) ?? 0) + step);
    });
  }
  setTimeout(refresh, EVERY);
})();
