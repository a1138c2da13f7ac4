// A sheet of one or two settings: every value of the one against every value of the other, with one seed.

import * as api from "./api.js";
import { keep, make, toast, voice } from "./dom.js";
import { over } from "./jobs.js";
import { number, say } from "./words.js";

/** Side of a cell of the exported sheet, in pixels. */
const CELL = 256;

/** What an axis may go along: `stage.setting`, or the seed. */
const parse = (text, isNumber) => text.split(",").map((value) => value.trim()).filter(Boolean)
  .map((value) => (isNumber ? Number(value) : value));

/** What a model's settings may be varied along. */
export const choicesOf = (facts, model) => model.stages.flatMap((stage) => facts.settings.filter((setting) => !setting.enlarging || stage.stage !== "base").map((setting) => {
  const standard = stage.defaults[setting.name] ?? setting.standard, isNumber = setting.kind !== "choice" && setting.kind !== "text";
  const round = (value) => (setting.kind === "integer" ? Math.max(1, Math.round(value)) : Number(value.toPrecision(3)));
  const example = setting.kind === "text" ? String(standard) : isNumber ? [standard / 2, standard, standard * 2].map(round).filter((value) => value <= setting.most).join(", ") : setting.choices.join(", ");
  return { name: `${stage.stage}.${setting.name}`, label: `${say(setting.name)}, ${stage.size} px`, isNumber, example };
}));

/** The fields that ask for axes; `draw(axes)` gets up to two of `{ name, label, values }`. */
export const asking = (choices, draw) => {
  const axis = (letter) => {
    const chosen = make("select", { "aria-label": `${say("axis")} ${letter}` }, make("option", { value: "" }, "—"), choices.map((choice) => make("option", { value: choice.name }, choice.label)));
    const values = make("input", { "aria-label": `${say("values")} ${letter}`, placeholder: say("values"), autocomplete: "off" });
    chosen.addEventListener("change", () => { values.value = choices.find((choice) => choice.name === chosen.value)?.example ?? ""; });
    return { chosen, values, element: make("label", { class: "field" }, make("span", {}, `${say("axis")} ${letter}`), chosen, values) };
  };
  const both = [axis("X"), axis("Y")];
  const send = () => {
    const axes = both.map(({ chosen, values }) => {
      const choice = choices.find((each) => each.name === chosen.value);
      return choice && { name: choice.name, label: choice.label, values: parse(values.value, choice.isNumber) };
    }).filter((each) => each && each.values.length > 0);
    if (axes.length === 0) return toast(say("axes_first"));
    const unread = axes.flatMap(({ label, values }) => (values.some((value) => Number.isNaN(value)) ? [label] : []));
    if (unread.length) return toast(say("axes_numbers", { label: unread[0] }));
    return draw(axes);
  };
  return make("fieldset", { class: "axes" }, make("legend", {}, say("axes")), both.map((each) => each.element),
    make("div", { class: "field" }, make("span", {}, "\u00a0"), make("button", { type: "button", onclick: send }, say("axes_draw"))));
};

/** An order with a value of an axis in its place. */
export const placed = (order, name, value) => {
  if (name === "seed") return { ...order, seed: value };
  const [stage, setting] = name.split(".");
  return { ...order, stages: { ...order.stages, [stage]: { ...order.stages?.[stage], [setting]: value } } };
};

/** The sheet while it is drawn. */
export const sheet = (order, axes, act) => {
  const [x, y] = axes, rows = y?.values ?? [null];
  const cells = rows.flatMap((down) => x.values.map((across) => {
    let given = placed(order, x.name, across);
    if (y) given = placed(given, y.name, down);
    const canvas = make("canvas", { width: 1, height: 1 });
    const tile = make("button", { type: "button", class: "tile waiting", disabled: true, "aria-label": [`${x.label} ${across}`, y && `${y.label} ${down}`].filter(Boolean).join(", "), onclick: () => act.open(cell.picture) }, canvas);
    const cell = { given, tile, canvas, across, down, job: null, picture: null };
    return cell;
  }));
  const note = make("p", { class: "soft num" });
  const cancel = make("button", { type: "button", onclick: () => stop() }, say("cancel"));
  const save = make("button", { type: "button", hidden: true, onclick: () => exported() }, say("axes_png"));
  const words = make("button", { type: "button", hidden: true, onclick: () => keep(new Blob([JSON.stringify(record(), null, 2)], { type: "application/json" }), "imagen-sheet.json") }, say("axes_json"));
  const table = make("table", { class: "grid" },
    make("thead", {}, make("tr", {}, y ? make("th", {}, `${y.label} ↓ · ${x.label} →`) : make("th", {}, `${x.label} →`), x.values.map((value) => make("th", { scope: "col" }, String(value))))),
    make("tbody", {}, rows.map((down, k) => make("tr", {}, make("th", { scope: "row" }, down === null ? "" : String(down)), cells.slice(k * x.values.length, (k + 1) * x.values.length).map((cell) => make("td", {}, cell.tile))))));
  const element = make("section", { class: "axes-sheet", "aria-label": order.prompt }, make("blockquote", {}, order.prompt), make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": say("axes") }, table), note, make("div", { class: "row" }, cancel, save, words));

  const record = () => ({ prompt: order.prompt, axes, cells: cells.map((cell) => ({ [x.label]: cell.across, ...(y ? { [y.label]: cell.down } : {}), request: cell.given, image: cell.picture?.url })) });
  const told = () => {
    const ready = cells.filter((cell) => cell.picture).length;
    note.textContent = say("axes_ready", { n: number(ready), all: number(cells.length) });
    const ended = cells.every((cell) => cell.ended);
    cancel.hidden = ended;
    save.hidden = words.hidden = !ended || ready === 0;
    if (ended) voice(note.textContent);
  };
  const stop = () => { for (const cell of cells) if (cell.job && !cell.ended) api.cancel(cell.job).catch((problem) => toast(problem.message)); };

  /** The sheet as one picture, with the values at its edges. */
  const exported = () => {
    const left = y ? 150 : 20, top = 90, canvas = make("canvas", { width: left + x.values.length * (CELL + 8) + 12, height: top + rows.length * (CELL + 8) + 12 });
    const pen = canvas.getContext("2d");
    Object.assign(pen, { fillStyle: "#ffffff" });
    pen.fillRect(0, 0, canvas.width, canvas.height);
    Object.assign(pen, { fillStyle: "#211e1a", font: "20px serif", textBaseline: "middle" });
    pen.fillText(order.prompt, 16, 26, canvas.width - 32);
    Object.assign(pen, { font: "15px sans-serif", fillStyle: "#6a645b" });
    pen.fillText([`→ ${x.label}`, y && `↓ ${y.label}`].filter(Boolean).join("   "), 16, 50, canvas.width - 32);
    pen.fillStyle = "#211e1a";
    x.values.forEach((value, k) => pen.fillText(String(value), left + k * (CELL + 8), 74, CELL));
    rows.forEach((value, k) => value !== null && pen.fillText(String(value), 16, top + k * (CELL + 8) + CELL / 2, left - 24));
    cells.forEach((cell, k) => {
      const image = cell.tile.querySelector("img");
      if (!image) return;
      pen.imageSmoothingEnabled = image.naturalWidth > 64;
      pen.drawImage(image, left + (k % x.values.length) * (CELL + 8), top + Math.floor(k / x.values.length) * (CELL + 8), CELL, CELL);
    });
    canvas.toBlob((blob) => keep(blob, "imagen-sheet.png"), "image/png");
  };

  const begin = async () => {
    for (const cell of cells) {
      try {
        const job = await api.submit({ ...cell.given, count: 1 });
        cell.job = job.id;
        act.see(job);
      } catch (problem) {
        cell.ended = true;
        cell.tile.classList.remove("waiting");
        toast(problem.message);
      }
      told();
    }
  };

  return {
    element, begin,
    /** Whether a job is a cell's. */
    has: (id) => cells.some((cell) => cell.job === id),
    hear: (name, seen, more) => {
      const cell = cells.find((each) => each.job === seen.job.id);
      if (name === "frame") {
        cell.tile.classList.remove("waiting");
        act.paint(cell.canvas, more, 0);
        // the sheet shows what is now, and looks back at nothing
        seen.frames.splice(0).forEach((frame) => frame.bitmap.close());
      }
      if (name === "picture" && !cell.picture) {
        cell.picture = more;
        cell.tile.append(make("img", { src: more.url, alt: "", class: more.width <= 64 ? "crisp" : "" }));
        cell.tile.classList.remove("waiting");
        cell.tile.disabled = false;
      }
      if (over(seen.job)) { cell.ended = true; cell.tile.classList.remove("waiting"); }
      told();
    },
  };
};
