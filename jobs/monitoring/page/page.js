// The page: its controls, its theme, and the first drawing.
"use strict";

const state = {
  data: JSON.parse(document.getElementById("data").textContent),
  axis: "steps",
  focus: 0,
  visible: [],
  charts: [],
  dark: false,
  theme: "auto",
  slide: null,
  zooming: false,

  // Show the same range in all figures; without one, everything.
  zoom(source, low, high) {
    if (this.zooming) {
      return;
    }

    this.zooming = true;
    for (const chart of this.charts) {
      if (chart.plot && chart !== source) {
        const grid = chart.content.grid;
        chart.plot.setScale("x", low === null ? { min: grid[0], max: grid[grid.length - 1] } : { min: low, max: high });
      }
    }

    this.zooming = false;
  },
};

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  state.dark = state.theme === "dark" || (state.theme === "auto" && dark.matches);
  document.documentElement.dataset.theme = state.dark ? "dark" : "light";
}

function drawAll() {
  for (const chart of state.charts) {
    chart.draw();
  }

  fillOpenTables();
}

function fillOpenTables() {
  for (const chart of state.charts) {
    const details = chart.box.querySelector("details");
    if (details.open && chart.plot) {
      details.querySelector(".table").replaceChildren(figureTable(chart));
    }
  }
}

function figureBox(figure) {
  const id = `figure-${figure.key}`;
  const box = element("section", { class: "figure", "aria-labelledby": id });
  const keys = "Arrow keys move the cursor, plus and minus zoom, Escape shows everything.";
  const plot = element("div", { class: "plot", tabindex: "0", role: "application",
    "aria-label": `${figure.title}, figure. ${keys} Its numbers are in the table below.` });
  const png = element("button", { type: "button" }, "PNG");
  const svg = element("button", { type: "button" }, "SVG");
  png.setAttribute("aria-label", `Save ${figure.title} as PNG`);
  svg.setAttribute("aria-label", `Save ${figure.title} as SVG`);
  const summary = element("summary", {}, "Table", element("span", { class: "unseen" }, ` of ${figure.title}`));
  const details = element("details", {}, summary, element("div", { class: "table" }));
  box.append(
    element("h3", { id }, figure.title),
    element("p", { class: "about" }, figure.about),
    plot,
    element("p", { class: "key" }),
    element("p", { class: "readout" }),
    element("div", { class: "tools" }, details, element("span", { class: "buttons" }, png, svg)),
  );
  const chart = new Chart(figure, box);
  png.addEventListener("click", () => savePng(chart));
  svg.addEventListener("click", () => saveSvg(chart));
  details.addEventListener("toggle", fillOpenTables);
  return chart;
}

// A sample of a line, so that colour is not all that tells it.
function lineSample(colour, dash) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const set = (node, attributes) => Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  set(svg, { width: 30, height: 10, "aria-hidden": "true" });
  set(line, { x1: 0, y1: 5, x2: 30, y2: 5, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash.join(" ") });
  svg.append(line);
  return svg;
}

function makeControls() {
  const runs = state.data.runs;
  const list = document.getElementById("runs");
  runs.forEach((run, i) => {
    state.visible[i] = true;
    const box = element("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => {
      state.visible[i] = box.checked;
      drawAll();
    });
    list.append(element("label", {}, box, lineSample(`var(--run-${i % 10})`, DASHES[i % DASHES.length]), ` ${run.name}`));
  });

  const focus = document.getElementById("focus");
  focus.append(...runs.map((run, i) => element("option", { value: String(i) }, run.name)));
  focus.addEventListener("change", () => {
    state.focus = Number(focus.value);
    drawAll();
  });
  const axis = document.getElementById("axis");
  axis.addEventListener("change", () => {
    state.axis = axis.value;
    drawAll();
  });
  const theme = document.getElementById("theme");
  theme.addEventListener("change", () => {
    state.theme = theme.value;
    applyTheme();
    drawAll();
    fillTables();
  });
  document.getElementById("reset").addEventListener("click", () => state.zoom(null, null, null));
}

// `#slide` shows the figures alone, for a picture; `#slide=loss` one of them.
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.has("slide")) {
    state.slide = wanted.get("slide") || "all";
    document.documentElement.classList.add("slide", state.slide === "all" ? "many" : "one");
  }

  state.theme = wanted.get("theme") || "auto";
  state.axis = wanted.get("axis") in AXES ? wanted.get("axis") : "steps";
  document.getElementById("axis").value = state.axis;
  document.getElementById("theme").value = state.theme;
}

function start() {
  readAddress();
  applyTheme();
  makeControls();
  const wanted = FIGURES.filter((figure) => !state.slide || state.slide === "all" || state.slide === figure.key);
  state.charts = wanted.map(figureBox);
  document.getElementById("figures").append(...state.charts.map((chart) => chart.box));
  drawAll();
  fillTables();
  document.documentElement.dataset.drawn = String(Math.round(performance.now()));

  dark.addEventListener("change", () => {
    applyTheme();
    drawAll();
    fillTables();
  });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (width !== window.innerWidth) {
      width = window.innerWidth;
      requestAnimationFrame(drawAll);
    }
  });
}

start();
