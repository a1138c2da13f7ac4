// Curves, drawn here: as SVG, with words for those who cannot see them.

import { make } from "./dom.js";
import { number, say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 260, 56, 26];

const draw = (tag, given, ...children) => {
  const element = document.createElementNS(SVG, tag);
  Object.entries(given).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
};

/** So many digits that neighbours on a scale are told apart. */
const digits = (span) => Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(span || 1))));

const figure = (title, curves, svg, note) => make("figure", { class: "chart" },
  make("figcaption", {}, make("h3", {}, title), note ? make("p", { class: "soft" }, note) : null, make("p", { class: "legend" }, curves.map((curve, k) => make("span", { class: `key c${k % 6} ${curve.kind ?? ""}` }, curve.label)))), svg);

/** Curves `{ label, points, kind }` over steps; losses are shown in powers. */
export const overSteps = (title, curves) => {
  const points = curves.flatMap((curve) => curve.points).filter(([, value]) => value > 0);
  if (points.length === 0) return null;
  const most = Math.max(...points.map(([step]) => step)), values = points.map(([, value]) => Math.log(value));
  const [low, high] = [Math.min(...values), Math.max(...values) + 1e-6];
  const x = (step) => LEFT + (step / most) * (WIDTH - LEFT - 8), y = (value) => 10 + (1 - (Math.log(value) - low) / (high - low)) * (HEIGHT - BOTTOM - 16);
  const ticks = [0, 1, 2, 3].map((k) => Math.exp(low + ((high - low) * k) / 3));
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${curves.map((curve) => `${curve.label} ${number(curve.points.at(-1)?.[1] ?? NaN, 4)}`).join(", ")}` },
    ...ticks.flatMap((value) => [draw("line", { class: "rule", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) }), draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, number(value, 3))]),
    ...[0, 0.5, 1].map((part) => draw("text", { x: x(most * part), y: HEIGHT - 8, "text-anchor": ["start", "middle", "end"][part * 2] }, part === 1 ? say("steps_of", { n: number(most) }) : number(most * part))),
    ...curves.map((curve, k) => draw("polyline", { class: `curve c${k % 6} ${curve.kind ?? ""}`, points: curve.points.filter(([, value]) => value > 0).map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })));
  return figure(title, curves, svg);
};

/** Curves `{ label, points, labels }` of one number against another, each point with its own words beside it. */
export const against = (title, [across, up], curves, note) => {
  const points = curves.flatMap((curve) => curve.points), height = 380, bottom = 48;
  const scale = (values, from, to) => {
    const [low, high] = [Math.min(...values), Math.max(...values)], room = (high - low || Math.abs(high) || 1) * 0.08;
    return { low, high, at: (value) => from + ((value - low + room) / (high - low + 2 * room)) * (to - from), digits: digits(high - low) };
  };
  const x = scale(points.map(([value]) => value), LEFT, WIDTH - 8), y = scale(points.map(([, value]) => value), height - bottom, 12);
  const ticks = ({ low, high }) => (high > low ? [0, 1, 2, 3].map((k) => low + ((high - low) * k) / 3) : [low]);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": `${title}: ${curves.map((curve) => `${curve.label}: ${curve.points.map(([a, b], k) => `${curve.labels[k]} ${number(a, x.digits)}, ${number(b, y.digits)}`).join("; ")}`).join(". ")}` },
    ...ticks(y).flatMap((value) => [draw("line", { class: "rule", x1: LEFT, x2: WIDTH - 8, y1: y.at(value), y2: y.at(value) }), draw("text", { x: LEFT - 6, y: y.at(value) + 4, "text-anchor": "end" }, number(value, y.digits))]),
    ...ticks(x).map((value) => draw("text", { x: x.at(value), y: height - bottom + 18, "text-anchor": "middle" }, number(value, x.digits))),
    draw("text", { x: (LEFT + WIDTH) / 2, y: height - 6, "text-anchor": "middle" }, across),
    ...curves.map((curve, k) => draw("polyline", { class: `curve c${k % 6}`, points: curve.points.map(([a, b]) => `${x.at(a).toFixed(1)},${y.at(b).toFixed(1)}`).join(" ") })),
    ...curves.flatMap((curve) => curve.points.map(([a, b], n) => draw("text", { class: "beside", x: (x.at(a) - 7).toFixed(1), y: (y.at(b) - 7).toFixed(1), "text-anchor": "end" }, curve.labels[n]))),
    ...curves.flatMap((curve, k) => curve.points.map(([a, b]) => draw("circle", { class: `dot c${k % 6}`, cx: x.at(a).toFixed(1), cy: y.at(b).toFixed(1), r: 3.5 }))));
  return figure(title, curves, svg, [note, `↑ ${up}`].filter(Boolean).join(" "));
};
