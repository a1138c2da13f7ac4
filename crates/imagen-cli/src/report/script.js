// Readings under the pointer, and one large grid with a slider. The page is complete without either.
"use strict";

for (const svg of document.querySelectorAll(".chart svg")) {
  const numbers = (name) => svg.dataset[name].split(" ").map(Number);
  const [x0, x1] = numbers("x"), [y0, y1, log] = numbers("y"), [left, top, right, bottom] = numbers("plot");
  const readings = svg.parentNode.querySelectorAll(".legend li:not(.faint) b");
  const lines = [...svg.querySelectorAll("polyline:not(.faint)")].map((line, i) => ({
    points: line.getAttribute("points").split(" ").filter(Boolean).map((pair) => pair.split(",").map(Number)),
    value: readings[i],
  }));
  const last = lines.map((line) => line.value && line.value.textContent);
  const name = svg.querySelector(".name"), label = name.textContent, cursor = svg.querySelector(".cursor");
  const short = (value) => Number(value.toPrecision(4)).toString();
  const reset = () => {
    lines.forEach((line, i) => { if (line.value) line.value.textContent = last[i]; });
    name.textContent = label;
    cursor.setAttribute("hidden", "");
    cursor.removeAttribute("d");
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    let found = null;
    for (const line of lines) {
      if (!line.points.length || !line.value) continue;
      const point = line.points.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a);
      const share = (bottom - point[1]) / (bottom - top);
      line.value.textContent = short(log ? y0 * (y1 / y0) ** share : y0 + share * (y1 - y0));
      found = point[0];
    }
    if (found === null) return;
    const x = x0 + (found - left) / (right - left) * (x1 - x0);
    name.textContent = label + " " + (x1 - x0 > 20 ? Math.round(x) : short(x));
    cursor.setAttribute("d", `M${found} ${top}V${bottom}`);
    cursor.removeAttribute("hidden");
  });
  svg.addEventListener("pointerleave", reset);
}

for (const grids of document.querySelectorAll(".grids")) {
  const figures = [...grids.querySelectorAll("figure")], viewer = grids.parentNode.querySelector(".viewer");
  const large = viewer.querySelector("img"), slider = viewer.querySelector("input"), output = viewer.querySelector("output");
  // the slider runs from old to new, the figures from new to old
  const show = (index) => {
    const chosen = figures[index], picture = chosen.querySelector("img");
    large.src = picture.src;
    large.alt = picture.alt;
    output.textContent = chosen.querySelector("figcaption").textContent;
    slider.value = figures.length - 1 - index;
    figures.forEach((figure) => figure.classList.toggle("shown", figure === chosen));
  };
  slider.max = figures.length - 1;
  slider.addEventListener("input", () => show(figures.length - 1 - Number(slider.value)));
  figures.forEach((figure, index) => figure.addEventListener("click", () => show(index)));
  grids.classList.add("chosen");
  viewer.hidden = false;
  slider.parentNode.hidden = figures.length < 2;
  show(0);
}
