// A job while it is drawn: its pictures, the strip of its stages, the film of its steps.

import * as api from "./api.js";
import { make, toast, voice } from "./dom.js";
import { over } from "./jobs.js";
import { number, say } from "./words.js";

/** Up to this size pixels are shown as what they are. */
const CRISP = 64;

/** Width of a step in the film, with the gap beside it. */
const FRAME = 44;

/** Paints picture `k` of a frame on a canvas. */
export const paint = (canvas, frame, k) => {
  const { width, height, bitmap } = frame;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.classList.toggle("crisp", width <= CRISP);
  canvas.getContext("2d").drawImage(bitmap, 0, k * height, width, height, 0, 0, width, height);
};

/** The view of a job. `act` says what can be done: `draw(order)`, `open(picture)`, `form`. */
export const live = (seen, model, act) => {
  const { job } = seen;
  const seeds = job.request.seeds, all = model.stages.slice(0, model.stages.findIndex((stage) => stage.stage === job.request.until) + 1);
  const stages = job.request.from ? all.slice(all.findIndex((stage) => stage.stage === job.request.from)) : all;
  const drafts = all.length === 1 && seeds.length > 1;
  const picked = new Set();

  const tiles = seeds.map((seed, k) => {
    const canvas = make("canvas", { width: 1, height: 1 });
    const element = make("button", {
      type: "button", class: "tile waiting", disabled: true, "aria-label": say(drafts ? "pick" : "open", { n: k + 1, seed, prompt: job.request.prompt }),
      "aria-pressed": drafts ? "false" : undefined,
      onclick: () => (drafts ? pick(k) : act.open(tiles[k].picture)),
    }, canvas, drafts ? make("span", { class: "tick", "aria-hidden": "true" }, "✓") : null);
    return { element, canvas, image: null, picture: null };
  });
  const columns = seeds.length === 1 ? 1 : seeds.length === 2 ? 2 : seeds.length <= 4 ? 4 : 9;
  const sheet = make("div", { class: `sheet n${columns}`, "aria-busy": "true" }, tiles.map((tile) => tile.element));

  const cells = stages.map((stage) => {
    const canvas = make("canvas", { width: 1, height: 1 }), note = make("span", { class: "num" }, "\u00a0"), bar = make("progress", { max: 1, value: 0, "aria-label": say(stage.stage, { size: stage.size }) });
    const element = make("li", {}, make("div", { class: "cell" }, canvas), make("div", {}, make("b", { class: "num" }, `${stage.size} px`), note), bar);
    return { stage, element, canvas, note, bar };
  });
  const strip = make("ol", { class: "strip" }, cells.flatMap((cell, k) => (k ? [make("li", { class: "arrow", "aria-hidden": "true" }, "→"), cell.element] : [cell.element])));

  const frames = make("div", { class: "frames", "aria-hidden": "true" });
  const scrub = make("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": say("film"), title: say("film"), oninput: () => look(Number(scrub.value)) });
  const where = make("p", { class: "soft num", "aria-hidden": "true" });
  const film = make("div", { class: "film", hidden: true }, frames, scrub, where);

  const state = make("p", { class: "num" }), facts = make("p", { class: "facts num" });
  const cancel = make("button", { type: "button", onclick: () => stop() }, say("cancel"), " ", make("kbd", {}, "Esc"));
  const actions = make("div", { class: "row" });
  const trouble = make("p", { class: "bad", hidden: true });
  const noted = make("ul", { class: "remarks", hidden: true });
  const side = make("div", { class: "side" },
    make("blockquote", {}, job.request.prompt || "—"), noted, strip, film,
    make("div", {}, state, facts), trouble, actions);
  const element = make("section", { class: "work", "aria-label": job.request.prompt }, sheet, side);

  const stop = async () => {
    cancel.disabled = true;
    state.textContent = say("cancelling");
    facts.replaceChildren();
    try { await api.cancel(seen.job.id); } catch (problem) { toast(problem.message); cancel.disabled = false; }
  };

  /** The steps of the first picture, one beside the other. */
  const mine = () => seen.frames.filter((frame) => frame.pictures[0] === 0);

  /** Of many steps as many are seen as have room, evenly. */
  const spread = () => {
    const all = [...frames.children], room = Math.max(2, Math.floor(frames.clientWidth / FRAME) || 8), last = all.length - 1;
    const kept = new Set(all.length <= room ? all.keys() : Array.from({ length: room }, (_, k) => Math.round((k * last) / (room - 1))));
    all.forEach((frame, k) => { frame.hidden = !kept.has(k); });
  };

  /** Looks back at a step; the last one is now. */
  const look = (at) => {
    const all = mine(), frame = all[at];
    if (!frame) return;
    const now = say("stage_now", { size: stages.find((stage) => stage.stage === frame.stage)?.size, step: frame.step, of: frame.of });
    where.textContent = now;
    scrub.setAttribute("aria-valuetext", now);
    [...frames.children].forEach((small, k) => small.classList.toggle("on", k === at));
    paint(tiles[0].canvas, frame, 0);
    if (tiles[0].image) tiles[0].image.hidden = at + 1 < all.length;
  };

  const pick = (k) => {
    if (!picked.delete(k)) picked.add(k);
    tiles[k].element.setAttribute("aria-pressed", String(picked.has(k)));
    voice(say("picked", { n: picked.size }));
    offer();
  };

  /** What can be done with a job that is over. */
  const offer = () => {
    const buttons = [];
    const target = act.form.larger(job.request.until);
    const next = !job.request.from && all.length < model.stages.length ? model.stages[Math.max(all.length, model.stages.indexOf(target))] : null;
    const enlarge = (chosen) => {
      const { count, seed, batch, ...rest } = job.request;
      act.draw({ ...rest, until: next.stage, seeds: chosen });
    };
    if (!over(seen.job)) {
      buttons.push(cancel);
    } else if (drafts && next) {
      const chosen = [...picked].sort((a, b) => a - b).map((k) => seeds[k]);
      buttons.push(make("button", { type: "button", class: "main", disabled: chosen.length === 0, onclick: () => enlarge(chosen) },
        chosen.length ? say("enlarge", { n: chosen.length, size: `${next.size} px` }) : say("enlarge_none")));
      buttons.push(make("button", { type: "button", onclick: () => { const { seeds: _, ...rest } = job.request; act.draw({ ...rest, count: seeds.length }); } }, say("nine_others")));
    } else if (next && seen.job.state === "done") {
      buttons.push(make("button", { type: "button", onclick: () => enlarge(seeds) }, say("bigger", { size: `${next.size} px` })));
    }
    if (["failed", "cancelled", "interrupted"].includes(seen.job.state)) {
      buttons.push(make("button", { type: "button", onclick: async () => { try { const next = await api.again(seen.job.id); act.settled(seen.job.id); act.taken(next); } catch (problem) { toast(problem.message); } } }, say("run_again")));
    }
    // the focus is not to fall out of what is made anew
    const focused = actions.contains(document.activeElement);
    actions.replaceChildren(...buttons);
    if (focused) (actions.querySelector("button:not(:disabled)") ?? act.form.prompt).focus();
  };

  const show = {
    /** The state changed. */
    state: () => {
      const { state: now, position, error, pictures } = seen.job;
      const last = pictures.at(-1);
      state.textContent = now === "queued" && position ? say("position", { n: position }) : say(now);
      if (now === "done" && last) {
        const told = [say("took", { n: number(last.seconds, 1) })];
        if (seeds.length === 1) told.push(`${say("seed")} ${seeds[0]}`);
        facts.replaceChildren(...told.map((text) => make("span", {}, text)));
      } else if (over(seen.job)) facts.replaceChildren();
      trouble.hidden = !error;
      trouble.textContent = error ?? "";
      sheet.setAttribute("aria-busy", String(!over(seen.job)));
      if (over(seen.job)) {
        tiles.filter((tile) => !tile.picture).forEach((tile) => tile.element.classList.remove("waiting"));
        cells.forEach((cell) => cell.element.classList.remove("on"));
      }
      offer();
    },
    /** What the picture will not follow, with prompts that it would. */
    remarks: () => {
      const all = seen.job.remarks ?? [];
      noted.hidden = all.length === 0;
      noted.replaceChildren(...all.map(({ kind, text, words, nearest = [] }) => make("li", {},
        say(`remark_${kind}`, { text, words: words?.length > 160 ? `${words.slice(0, 160)}…` : words }),
        nearest.length ? make("span", { class: "row tight" }, nearest.map((near) => make("button", { type: "button", onclick: () => { act.fill({ ...job.request, prompt: near }); act.form.send(false); } }, near))) : null)));
      if (all.length) voice([...noted.children].map((item) => item.firstChild.textContent).join(" "));
    },
    step: () => {
      const { stage, step, of, eta_seconds: left, elapsed_seconds: gone, memory } = seen.step;
      const at = stages.findIndex((each) => each.stage === stage);
      cells.forEach((cell, k) => {
        cell.element.classList.toggle("on", k === at);
        cell.element.classList.toggle("over", k < at || (k === at && step === of));
        if (k === at) cell.element.setAttribute("aria-current", "step"); else cell.element.removeAttribute("aria-current");
      });
      cells[at].note.textContent = `${step} / ${of}`;
      cells[at].bar.value = step / of;
      if (step === 1) voice(say(stage, { size: stages[at].size }));
      if (cancel.disabled) return;
      state.textContent = say("stage_now", { size: stages[at].size, step, of });
      const told = [say("seconds", { n: number(gone, 1) }), say("left", { n: number(Math.max(1, Math.round(left))) })];
      if (memory) told.push(say("memory", { n: number(memory / 2 ** 20) }));
      facts.replaceChildren(...told.map((text) => make("span", {}, text)));
    },
    frame: (frame) => {
      const [first, end] = frame.pictures;
      for (let k = first; k < end; k++) {
        tiles[k].element.classList.remove("waiting");
        paint(tiles[k].canvas, frame, k - first);
      }
      const cell = cells.find((each) => each.stage.stage === frame.stage);
      paint(cell.canvas, frame, 0);
      if (first !== 0) return;
      const small = make("canvas", { width: 1, height: 1 });
      paint(small, frame, 0);
      small.addEventListener("click", () => { const at = [...frames.children].indexOf(small); scrub.value = String(at); look(at); });
      frames.append(small);
      film.hidden = false;
      spread();
      const following = Number(scrub.value) === Number(scrub.max);
      scrub.max = String(mine().length - 1);
      if (following) scrub.value = scrub.max; else look(Number(scrub.value));
    },
    picture: (picture) => {
      const tile = tiles[picture.index];
      tile.picture = picture;
      tile.image = make("img", { src: picture.url, alt: "", class: picture.width <= CRISP ? "crisp" : "" });
      tile.element.append(tile.image);
      tile.element.classList.remove("waiting");
      tile.element.disabled = false;
      if (drafts) tile.element.append(tile.element.querySelector(".tick"));
      if (seeds.length > 1 && !drafts) voice(say("beyond", { n: picture.index + 1, all: seeds.length }));
    },
  };
  if (seen.step) show.step();
  seen.frames.forEach(show.frame);
  seen.job.pictures.forEach(show.picture);
  show.state();
  show.remarks();
  return { element, seen, stop, ...show };
};
