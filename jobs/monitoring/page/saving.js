// A figure as a picture: PNG from the canvas, SVG from the same columns and scales.
"use strict";

function legendOf(chart) {
  const lines = chart.content.columns.filter((column) => !column.hidden && !column.points);
  return lines.filter((column) => column.run === undefined || state.visible[column.run]);
}

function download(name, address) {
  const link = document.createElement("a");
  link.download = name;
  link.href = address;
  link.click();
}

function fileName(chart, ending) {
  const runs = state.data.runs.map((run) => run.name).join("-").slice(0, 60);
  return `${runs}-${chart.figure.key}.${ending}`;
}

// The picture with title and legend, as a canvas.
function pictureOf(chart) {
  const ratio = window.devicePixelRatio || 1;
  const source = chart.plot.ctx.canvas;
  const legend = legendOf(chart);
  const shown = legend.slice(0, 12);
  const head = 30 * ratio;
  const foot = (18 * Math.ceil(shown.length / 3) + 10) * ratio;
  const canvas = document.createElement("canvas");
  canvas.width = source.width;
  canvas.height = source.height + head + foot;
  const ink = colours();
  const context = canvas.getContext("2d");
  context.fillStyle = ink.paper;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(source, 0, head);
  context.fillStyle = ink.ink;
  context.font = `600 ${15 * ratio}px system-ui, sans-serif`;
  context.fillText(chart.figure.title, 10 * ratio, 20 * ratio);
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  shown.forEach((column, i) => {
    const x = ((i % 3) * canvas.width) / 3 + 10 * ratio;
    const y = source.height + head + (18 * Math.floor(i / 3) + 12) * ratio;
    context.strokeStyle = column.stroke;
    context.lineWidth = 2 * ratio;
    context.setLineDash((column.dash || []).map((length) => length * ratio));
    context.beginPath();
    context.moveTo(x, y - 4 * ratio);
    context.lineTo(x + 26 * ratio, y - 4 * ratio);
    context.stroke();
    context.fillText(column.label, x + 32 * ratio, y);
  });
  return canvas;
}

function savePng(chart) {
  download(fileName(chart, "png"), pictureOf(chart).toDataURL("image/png"));
}

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}

// The drawing as SVG text.
function svgOf(chart) {
  const u = chart.plot;
  const ink = colours();
  const ratio = window.devicePixelRatio || 1;
  const box = { left: u.bbox.left / ratio, top: u.bbox.top / ratio + 30, width: u.bbox.width / ratio,
    height: u.bbox.height / ratio };
  const legend = legendOf(chart);
  const width = u.width;
  const height = u.height + 40 + 18 * Math.ceil(legend.length / 3);
  const x = (value) => +(box.left + u.valToPos(value, "x")).toFixed(1);
  const y = (value) => +(box.top + u.valToPos(value, "y")).toFixed(1);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="sans-serif" font-size="12" role="img"><title>${escaped(chart.figure.title)}</title>`,
    `<rect width="${width}" height="${height}" fill="${ink.paper}"/>`,
    `<text x="10" y="20" font-size="15" font-weight="600" fill="${ink.ink}">${escaped(chart.figure.title)}</text>`,
    `<clipPath id="c"><rect x="${box.left}" y="${box.top}" width="${box.width}" height="${box.height}"/></clipPath>`,
    ...axesOf(chart, box, x, y, ink),
    '<g clip-path="url(#c)">',
    ...chart.content.columns.map((column) => pathOf(column, chart.content.grid, x, y)),
    "</g>",
  ];
  legend.forEach((column, i) => {
    const left = ((i % 3) * width) / 3 + 10;
    const top = u.height + 46 + 18 * Math.floor(i / 3);
    parts.push(`<path d="M${left} ${top - 4}h26" stroke="${column.stroke}" stroke-width="2" ` +
      `stroke-dasharray="${(column.dash || []).join(" ")}"/>`);
    parts.push(`<text x="${left + 32}" y="${top}" fill="${ink.ink}">${escaped(column.label)}</text>`);
  });
  return parts.join("\n") + "\n</svg>\n";
}

function axesOf(chart, box, x, y, ink) {
  const u = chart.plot;
  const marks = (axis) => (u.axes[axis]._splits || []).filter((value) => value !== null);
  const parts = [];
  for (const value of marks(0)) {
    const at = x(value);
    if (at < box.left - 1 || at > box.left + box.width + 1) continue;
    parts.push(`<path d="M${at} ${box.top}v${box.height}" stroke="${ink.faint}"/>`);
    parts.push(`<text x="${at}" y="${box.top + box.height + 16}" text-anchor="middle" fill="${ink.ink}">` +
      `${escaped(AXES[state.axis].format(value))}</text>`);
  }
  for (const value of marks(1)) {
    const at = y(value);
    if (at < box.top - 1 || at > box.top + box.height + 1) continue;
    parts.push(`<path d="M${box.left} ${at}h${box.width}" stroke="${ink.faint}"/>`);
    parts.push(`<text x="${box.left - 6}" y="${at + 4}" text-anchor="end" fill="${ink.ink}">` +
      `${escaped(chart.tick(value))}</text>`);
  }
  const middle = box.left + box.width / 2;
  parts.push(`<text x="${middle}" y="${box.top + box.height + 32}" text-anchor="middle" fill="${ink.ink}">` +
    `${escaped(AXES[state.axis].label)}</text>`);
  return parts;
}

function pathOf(column, grid, x, y) {
  const shown = !column.hidden && (column.run === undefined || state.visible[column.run]);
  const known = grid.map((at, i) => [at, column.values[i]]).filter(([, value]) => value !== null);
  if (!shown || !known.length) {
    return "";
  }

  if (column.points) {
    return known.map(([at, value]) => `<circle cx="${x(at)}" cy="${y(value)}" r="3.5" fill="none" ` +
      `stroke="${column.stroke}" stroke-width="2"/>`).join("");
  }

  const line = known.map(([at, value]) => `${x(at)} ${y(value)}`).join("L");
  return `<path d="M${line}" fill="none" stroke="${column.stroke}" stroke-width="1.75" ` +
    `stroke-dasharray="${(column.dash || []).join(" ")}"/>`;
}

function saveSvg(chart) {
  download(fileName(chart, "svg"), "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svgOf(chart)));
}
