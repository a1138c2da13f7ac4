// Trainings while they go on: curves of the runs that are chosen, and the grids of one over time.

import * as api from "./api.js";
import { make, toast } from "./dom.js";
import { moment, number, say } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 260, 52, 26];
/** How often runs are looked at while they are in view. */
const EVERY = 5000;

const draw = (tag, given, ...children) => {
  const element = document.createElementNS(SVG, tag);
  Object.entries(given).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children);
  return element;
};

/** A chart of curves `{ label, points, kind }` over steps; losses are shown in powers. */
const chart = (title, curves) => {
  const points = curves.flatMap((curve) => curve.points).filter(([, value]) => value > 0);
  if (points.length === 0) return null;
  const most = Math.max(...points.map(([step]) => step)), values = points.map(([, value]) => Math.log(value));
  const [low, high] = [Math.min(...values), Math.max(...values) + 1e-6];
  const x = (step) => LEFT + (step / most) * (WIDTH - LEFT - 8), y = (value) => 10 + (1 - (Math.log(value) - low) / (high - low)) * (HEIGHT - BOTTOM - 16);
  const ticks = [0, 1, 2, 3].map((k) => Math.exp(low + ((high - low) * k) / 3));
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${curves.map((curve) => `${curve.label} ${number(curve.points.at(-1)?.[1] ?? NaN, 4)}`).join(", ")}` },
    ...ticks.flatMap((value) => [draw("line", { class: "rule", x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value) }), draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, number(value, 3))]),
    ...[0, 0.5, 1].map((part) => draw("text", { x: x(most * part), y: HEIGHT - 8, "text-anchor": ["start", "middle", "end"][part * 2] }, number(most * part))),
    ...curves.map((curve, k) => draw("polyline", { class: `curve c${k % 6} ${curve.kind ?? ""}`, points: curve.points.filter(([, value]) => value > 0).map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ") })));
  return make("figure", { class: "chart" }, make("figcaption", {}, make("h3", {}, title), make("p", { class: "legend" }, curves.map((curve, k) => make("span", { class: `key c${k % 6} ${curve.kind ?? ""}` }, curve.label)))), svg);
};

/** The page of trainings. */
export const trainings = () => {
  const list = make("ul", { class: "runs" }), charts = make("div", { class: "charts" }), film = make("div", { class: "over-time" });
  const chosen = new Set(), shown = { name: null, at: null };
  let timer = null;

  const state = (run) => {
    const told = [`${number(run.step)} / ${number(run.steps)}`];
    if (run.alive && run.pictures_per_second) told.push(say("per_second", { n: number(run.pictures_per_second, 1) }));
    told.push(run.alive && run.eta_seconds ? say("minutes_left", { n: number(Math.ceil(run.eta_seconds / 60)) }) : moment(run.changed_ms));
    return told.join(" · ");
  };

  const look = async () => {
    const runs = (await Promise.all([...chosen].map((name) => api.run(name).catch(() => null)))).filter(Boolean);
    const named = (curve, kind) => runs.filter((run) => run.curves[curve].length).map((run) => ({ label: `${run.name}${kind ? `, ${say(curve)}` : ""}`, points: run.curves[curve], kind }));
    const alone = runs.length === 1 ? runs[0] : null;
    const captions = (run) => ["right_caption", "no_caption", "shuffled_captions"].map((name) => ({ label: say(name), points: run.curves[name] }));
    charts.replaceChildren(...[
      chart(say("loss"), alone ? [...named("loss"), ...named("validation", "dashed")] : named("loss")),
      alone ? chart(say("captions_worth"), captions(alone)) : chart(say("validation"), named("validation")),
    ].filter(Boolean));
    const last = runs.at(-1);
    if (!last || last.grids.length === 0) return film.replaceChildren();
    const following = shown.name !== last.name || shown.at === null || shown.at === last.grids.at(-2) || shown.at === last.grids.at(-1);
    if (following) [shown.name, shown.at] = [last.name, last.grids.at(-1)];
    const step = () => last.grids[Number(range.value)];
    const image = make("img", { alt: say("grid_of", { name: last.name, step: number(shown.at) }), src: `/api/v1/runs/${encodeURIComponent(last.name)}/grids/${shown.at}` });
    const note = make("p", { class: "soft num" }, say("grid_of", { name: last.name, step: number(shown.at) }));
    const range = make("input", { type: "range", min: 0, max: last.grids.length - 1, value: last.grids.indexOf(shown.at), "aria-label": say("grids"), oninput: () => {
      shown.at = step();
      image.src = `/api/v1/runs/${encodeURIComponent(last.name)}/grids/${shown.at}`;
      note.textContent = image.alt = say("grid_of", { name: last.name, step: number(shown.at) });
    } });
    // a scrubber that is held is not to be made anew
    if (film.contains(document.activeElement)) return undefined;
    return film.replaceChildren(make("h3", {}, say("grids")), image, range, note);
  };

  const load = async () => {
    try {
      const { runs } = await api.runs();
      if (chosen.size === 0 && runs.length) chosen.add(runs[0].name);
      const focused = document.activeElement?.dataset?.run;
      list.replaceChildren(...runs.map((run) => make("li", {}, make("label", {},
        make("input", { type: "checkbox", "data-run": run.name, checked: chosen.has(run.name), onchange: (event) => { if (event.target.checked) chosen.add(run.name); else chosen.delete(run.name); look(); } }),
        make("span", {}, make("b", {}, run.name), ` ${run.size} px`, run.alive ? make("span", { class: "alive" }, say("alive")) : null),
        make("span", { class: "soft num" }, state(run)), make("progress", { max: run.steps, value: run.step, "aria-label": run.name })))));
      if (focused) list.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
      if (runs.length === 0) list.replaceChildren(make("li", { class: "empty" }, say("no_runs")));
      await look();
    } catch (problem) { toast(problem.message); }
  };

  return {
    element: make("div", {}, make("h2", { class: "unseen" }, say("train_page")), list, charts, film),
    /** Looks now and then, until it is out of view. */
    watch: (inView) => {
      clearInterval(timer);
      if (!inView) return;
      load();
      timer = setInterval(() => { if (document.visibilityState === "visible") load(); }, EVERY);
    },
  };
};
