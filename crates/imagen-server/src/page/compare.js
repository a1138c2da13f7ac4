// Two pictures against each other: a slider, a flip, their difference; with another one, with bicubic, or with another setting.

import * as api from "./api.js";
import { choicesOf, placed } from "./axes.js";
import { make, toast, typing, voice } from "./dom.js";
import { over } from "./jobs.js";
import { say } from "./words.js";

/** How often it is asked whether a picture is ready. */
const LOOK = 300;

/** Keys' cubic with a = -1/2, which Pillow and PyTorch call bicubic with antialiasing. */
const cubic = (x) => {
  const t = Math.abs(x);
  return t < 1 ? (1.5 * t - 2.5) * t * t + 1 : t < 2 ? ((-0.5 * t + 2.5) * t - 4) * t + 2 : 0;
};

/** Lines of `from` pixels of four channels as lines of `to`; `step` and `stride` say where the next pixel and line are. */
const stretched = (source, from, to, lines, step, stride, width) => {
  const out = new Float32Array(to * lines * 4);
  for (let k = 0; k < to; k++) {
    const at = ((k + 0.5) * from) / to - 0.5, first = Math.floor(at) - 1;
    const taps = [0, 1, 2, 3].map((tap) => [first + tap, cubic(at - first - tap)]).filter(([place]) => place >= 0 && place < from);
    const sum = taps.reduce((all, [, weight]) => all + weight, 0);
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < 4; channel++) {
        let value = 0;
        for (const [place, weight] of taps) value += (source[(place * step + line * stride) * 4 + channel] * weight) / sum;
        out[(step === 1 ? line * to + k : k * width + line) * 4 + channel] = value;
      }
    }
  }
  return out;
};

/** A small picture enlarged by bicubic interpolation, on a canvas. */
export const bicubic = (image, width, height) => {
  const [w, h] = [image.naturalWidth, image.naturalHeight], sheet = make("canvas", { width: w, height: h });
  const pen = sheet.getContext("2d");
  pen.drawImage(image, 0, 0);
  const wide = stretched(pen.getImageData(0, 0, w, h).data, w, width, h, 1, w, width);
  const large = stretched(wide, h, height, width, width, 1, width);
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").putImageData(new ImageData(Uint8ClampedArray.from(large, Math.round), width, height), 0, 0);
  return canvas;
};

const decoded = async (url) => {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
};

/** Draws an order, and waits for its picture. */
const drawn = async (order, act) => {
  let job = await api.submit(order);
  act.taken(job, true);
  while (!over(job)) {
    await new Promise((done) => setTimeout(done, LOOK));
    job = await api.job(job.id);
  }
  if (job.state !== "done") throw new Error(job.error ?? say(job.state));
  return job.pictures[0];
};

/** What a picture was enlarged from, as an image. */
const small = async (picture, act) => {
  const { request } = picture;
  if (request.from) return decoded(`/api/v1/uploads/${request.begin.picture}/file`);
  const first = act.modelOf(picture.model).stages[0].stage, own = request.stages?.[first];
  const { sr_seeds: _, ...rest } = request;
  return decoded((await drawn({ ...rest, until: first, stages: own ? { [first]: own } : {} }, act)).url);
};

/** The page on which a picture to compare with is chosen; `show(back)` goes back to it. */
export const comparing = (content, act, back) => {
  /** Two pictures, `{ element, title, note }` each. */
  const pair = (left, right, shown) => {
    right.element.classList.add("over");
    const box = make("div", { class: "compare" }, left.element, right.element, make("div", { class: "cut", "aria-hidden": "true" }));
    const at = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": say("slider"), oninput: () => box.style.setProperty("--at", `${at.value}%`) });
    const flip = () => { at.value = Number(at.value) < 50 ? "100" : "0"; at.dispatchEvent(new Event("input")); voice(Number(at.value) < 50 ? right.title : left.title); };
    // beside each other or over each other: one excludes the other
    const ways = ["difference", "split"].map((name) => make("button", { type: "button", "aria-pressed": "false", onclick: () => {
      const yes = !box.classList.contains(name);
      box.classList.remove("difference", "split");
      box.classList.toggle(name, yes);
      for (const way of ways) way.setAttribute("aria-pressed", String(yes && way === ways[name === "split" ? 1 : 0]));
    } }, say(name)));
    content.replaceChildren(make("div", { class: "view" }, box), make("div", { class: "about" },
      make("h2", {}, say("compare_with")), at,
      make("div", { class: "row" }, make("button", { type: "button", class: "flip", onclick: flip }, say("flip"), " ", make("kbd", {}, "c")), ways, make("button", { type: "button", onclick: () => back(shown) }, say("to_picture"))),
      make("table", {}, make("tbody", {}, [left, right].map(({ title, note }) => make("tr", {}, make("th", { scope: "row" }, title), make("td", { class: "num" }, note)))))));
    at.focus();
  };
  const side = (picture, note) => ({ element: make("img", { src: picture.url, alt: picture.prompt, class: picture.width <= 64 ? "crisp" : "" }), title: picture.prompt || "—", note: note ?? `${picture.seed} · ${picture.width} px` });

  const busy = async (run) => {
    content.setAttribute("aria-busy", "true");
    const note = content.querySelector(".busy");
    if (note) note.hidden = false;
    voice(say("compare_wait"));
    for (const button of content.querySelectorAll("button")) button.disabled = true;
    try { await run(); } catch (problem) {
      toast(problem.message);
      for (const button of content.querySelectorAll("button")) button.disabled = false;
      if (note) note.hidden = true;
    } finally { content.removeAttribute("aria-busy"); }
  };

  /** Asks which picture to compare with: those of the same prompt first. */
  const choose = async (shown) => {
    const [same, latest] = await Promise.all([api.pictures({ search: shown.prompt.slice(0, 200), limit: "12" }), api.pictures({ limit: "24" })]);
    const others = new Map([...same.images, ...latest.images].filter((each) => each.id !== shown.id).map((each) => [each.id, each]));
    const model = act.modelOf(shown.model), enlarged = shown.request.from || model.stages[0].stage !== shown.until;
    const runs = model.stages.slice(0, model.stages.findIndex((stage) => stage.stage === shown.until) + 1).slice(shown.request.from ? 1 : 0).map((stage) => stage.stage);
    const settings = choicesOf(act.facts, model).filter(({ name }) => runs.includes(name.split(".")[0]));
    const models = act.facts.models.filter((each) => each.name !== shown.model && each.stages.some((stage) => stage.stage === shown.until));
    const choices = [...models.map((each) => ({ name: `model:${each.name}`, label: `${say("model")}: ${each.name}` })), ...settings];
    const what = make("select", { "aria-label": say("compare_other") }, choices.map((each) => make("option", { value: each.name }, each.label)));
    const value = make("input", { "aria-label": say("compare_value"), placeholder: say("compare_value"), autocomplete: "off" });
    const suggest = () => {
      const chosen = choices.find((each) => each.name === what.value);
      value.hidden = !chosen?.example;
      value.value = chosen?.example?.split(", ").at(-1) ?? "";
    };
    what.addEventListener("change", suggest);
    suggest();
    const against = () => busy(async () => {
      const chosen = choices.find((each) => each.name === what.value), given = chosen.isNumber ? Number(value.value) : value.value.trim();
      const order = what.value.startsWith("model:") ? { ...shown.request, model: what.value.slice(6), stages: {} } : placed(shown.request, what.value, given);
      const picture = await drawn(order, act);
      pair(side(shown), side(picture, value.hidden ? chosen.label : `${chosen.label}: ${value.value}`), shown);
    });
    const plain = () => busy(async () => {
      const canvas = bicubic(await small(shown, act), shown.width, shown.height);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", say("bicubic_of"));
      pair({ element: canvas, title: say("bicubic"), note: say("bicubic_of") }, side(shown), shown);
    });
    content.replaceChildren(make("div", { class: "page" }, make("h2", {}, say("compare_pick")),
      make("div", { class: "row other" }, enlarged ? make("button", { type: "button", onclick: plain }, say("bicubic")) : null,
        make("span", { class: "soft" }, say("compare_other")), what, value, make("button", { type: "button", onclick: against }, say("compare_draw")),
        make("span", { class: "busy soft", hidden: true }, say("compare_wait"))),
      make("ul", { class: "wall small" }, [...others.values()].map((other) => make("li", {}, make("figure", {},
        make("button", { type: "button", class: "tile", "aria-label": say("open", { prompt: other.prompt }), onclick: () => pair(side(shown), side(other), shown) },
          make("img", { src: `/api/v1/images/${other.id}/small`, alt: "", class: other.width <= 64 ? "crisp" : "" })),
        make("figcaption", {}, other.prompt)))))));
    content.querySelector("button")?.focus();
  };

  content.closest("dialog").addEventListener("keydown", (event) => {
    if (event.key === "c" && !typing(event)) content.querySelector(".flip")?.click();
  });
  return choose;
};
