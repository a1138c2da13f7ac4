// The page: a prompt and a picture, and behind them the gallery.

import * as api from "./api.js";
import { sheet } from "./axes.js";
import { by, dialog, make, toast, typing, voice } from "./dom.js";
import { evaluations } from "./evals.js";
import { form } from "./form.js";
import { gallery, hung } from "./gallery.js";
import { over, watch } from "./jobs.js";
import { live, paint } from "./live.js";
import { one } from "./one.js";
import * as png from "./png.js";
import { trainings } from "./runs.js";
import { number, other, say, sayAll } from "./words.js";

const RECENT = 12;

sayAll();

const theme = by("theme"), root = document.documentElement;
const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const showTheme = () => { theme.textContent = isDark() ? "☀" : "☾"; theme.setAttribute("aria-label", say("theme")); theme.title = say(isDark() ? "theme_light" : "theme_dark"); };
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; localStorage.setItem("imagen.theme", root.dataset.theme); showTheme(); });
showTheme();
const language = by("language");
language.textContent = say("language");
language.setAttribute("aria-label", say("language_label"));
language.title = say("language_label");
language.lang = say("language").toLowerCase();
/** Keeps what was typed and what was drawn last, before the page is made anew. */
let keeping = async () => {};
language.addEventListener("click", async () => { await keeping(); other(); });

/** The capabilities; a server that is still opening its models is asked again. */
const ask = async () => {
  for (;;) {
    try { return await api.capabilities(); } catch (problem) {
      toast(say("lost"));
      await new Promise((done) => setTimeout(done, 1000 * Math.max(1, problem.retryAfter ?? 0)));
    }
  }
};
const facts = await ask();
const modelOf = (name) => facts.models.find((model) => model.name === name) ?? facts.models[0];

let view = null, grid = null;
/** Interrupted jobs that are no longer told of. */
const let_go = new Set(JSON.parse(localStorage.getItem("imagen.let_go") ?? "[]"));
/** Jobs that are looked at elsewhere. */
const quiet = new Set();
const stage = make("div"), waiting = make("ul", { class: "waiting-list", "aria-label": say("queued") }), recent = make("ul", { class: "wall small" });
const recently = make("section", { class: "recent", hidden: true }, make("h2", {}, say("recent")), recent);
const examples = make("div", { class: "row" });
const suggest = make("div", { class: "suggest" }, make("p", {}, say("try")), examples);
/** Prompts of the model that draws, for those who do not know where to begin. */
const suggested = (model) => examples.replaceChildren(...model.examples.map((example) => make("button", { type: "button", onclick: () => { ask_form.prompt.value = example; ask_form.prompt.focus(); ask_form.send(false); } }, example)));

/** Sends an order. */
const draw = async (order) => {
  if (!order.prompt && !order.begin) { voice(say("first")); toast(say("first")); ask_form.prompt.focus(); return; }
  try {
    location.hash = "#draw";
    taken(await api.submit(order));
    // what is drawn is to be seen, however much stands before it
    if (stage.getBoundingClientRect().top > innerHeight / 2) stage.scrollIntoView({ block: "start" });
    voice(say("started", { prompt: order.prompt }));
  } catch (problem) {
    toast(problem.retryAfter ? `${problem.message} (${say("retry", { n: problem.retryAfter })})` : problem.message);
  }
};

/** A job was taken. What is drawn now stays in view until it is over. */
const taken = (job) => {
  const seen = jobs.see(job);
  if ((!view && !grid) || (view && over(view.seen.job)) || view?.seen === seen) look(seen);
  queue();
};

/** Draws a sheet of settings. */
const compare = (order, axes, runs) => {
  if (!order.prompt && !order.begin) return draw(order);
  const cells = axes.reduce((all, axis) => all * axis.values.length, 1), most = facts.limits.queue_per_client;
  if (cells > most) return toast(say("axes_many", { n: cells, most }));
  if (!runs) return toast(say("axes_stage"));
  if (view) jobs.forget(view.seen);
  view = null;
  suggest.hidden = true;
  grid = sheet(order, axes, { open: (picture) => act.open(picture), see: (job) => jobs.see(job), paint });
  stage.replaceChildren(grid.element);
  return grid.begin();
};

const ask_form = form(facts, draw, compare, suggested);
keeping = async () => {
  const order = await ask_form.order().catch(() => ask_form.words());
  sessionStorage.setItem("imagen.kept", JSON.stringify({ order, job: view?.seen.job.id }));
};

const larger = (picture) => {
  // what was enlarged as it is has no stage's size
  if (picture.request.from) return null;
  const { stages } = modelOf(picture.model);
  return stages[stages.findIndex((each) => each.stage === picture.until) + 1] ?? null;
};
const act = {
  form: ask_form, draw, larger,
  /** A job was taken; `quietly` where it is looked at elsewhere. */
  taken: (job, quietly) => { if (quietly) quiet.add(job.id); else taken(job); },
  /** An interrupted job was run again. */
  settled: (id) => { let_go.add(id); localStorage.setItem("imagen.let_go", JSON.stringify([...let_go].slice(-100))); queue(); },
  enlarged: (picture) => picture.request.from || modelOf(picture.model).stages[0].stage !== picture.until,
  sizes: (picture) => Object.fromEntries(modelOf(picture.model).stages.map((each) => [each.stage, each.size])),
  fill: (order) => { ask_form.fill(order); ask_form.begin.restore(order); location.hash = "#draw"; ask_form.prompt.focus(); },
  begin: (picture) => { location.hash = "#draw"; return ask_form.begin.use(picture).then(() => ask_form.begin.element.scrollIntoView({ block: "nearest" }), (problem) => toast(problem.message)); },
  facts, modelOf,
};

const latest = async () => {
  try {
    const { images } = await api.pictures({ limit: String(RECENT) });
    const open = (picture) => one(picture, {
      ...act, changed: latest, gone: latest, back: latest,
      around: (id, way) => images[images.findIndex((each) => each.id === id) + way],
    });
    recent.replaceChildren(...images.map((picture) => hung(picture, open)));
    recently.hidden = images.length === 0;
  } catch (problem) { toast(problem.message); }
};
act.open = (picture) => one(picture, { ...act, changed: latest, gone: latest, back: latest, around: () => undefined });

/** Shows a job. */
const look = (seen) => {
  if (view && view.seen !== seen) jobs.forget(view.seen);
  grid = null;
  view = live(seen, modelOf(seen.job.request.model), act);
  stage.replaceChildren(view.element);
  suggest.hidden = true;
};

/** The own jobs that wait. */
const queue = () => {
  const all = jobs.waiting().filter((seen) => seen !== view?.seen && !quiet.has(seen.job.id) && !grid?.has(seen.job.id));
  waiting.replaceChildren(...all.map(({ job }) => make("li", {},
    make("span", { class: "what" }, job.request.prompt),
    make("span", { class: "soft num" }, [job.position ? say("position", { n: job.position }) : say("queued"), job.eta_seconds ? say("left", { n: number(Math.ceil(job.eta_seconds)) }) : ""].filter(Boolean).join(" · ")),
    make("button", { type: "button", class: "plain", "aria-label": `${say("cancel")}: ${job.request.prompt}`, onclick: () => api.cancel(job.id).catch((problem) => toast(problem.message)) }, say("cancel")))));
  // what the server ended in the middle of, until it is run again or let go
  const broken = jobs.interrupted().filter((seen) => seen !== view?.seen && !let_go.has(seen.job.id));
  waiting.append(...broken.map(({ job }) => make("li", {},
    make("span", { class: "what" }, job.request.prompt || "—"), make("span", { class: "soft" }, say("interrupted")),
    make("button", { type: "button", class: "plain", onclick: async () => { try { const next = await api.again(job.id); act.settled(job.id); taken(next); } catch (problem) { toast(problem.message); } } }, say("run_again")),
    make("button", { type: "button", class: "plain icon", "aria-label": `${say("let_go")}: ${job.request.prompt}`, title: say("let_go"), onclick: () => act.settled(job.id) }, "✕"))));
  waiting.hidden = all.length + broken.length === 0;
};

const jobs = watch((name, what, more) => {
  if (name === "lost") return toast(say("lost"), null, null, 60);
  if (name === "back") return toast(say("back"), null, null, 3);
  if (name === "queue") {
    by("queue-note").textContent = what.waiting ? say(what.waiting === 1 ? "queue_one" : "queue_other", { n: what.waiting, s: number(Math.ceil(what.seconds)) }) : "";
    return;
  }
  if (quiet.has(what.job.id)) {
    jobs.forget(what);
    return undefined;
  }
  if (grid?.has(what.job.id)) {
    grid.hear(name, what, more);
    if (name === "end") latest();
    return queue();
  }
  // what a sheet's jobs say before the sheet knows them
  if (grid && what.job.state === "queued") return queue();
  if (name === "begin" || (name === "job" && what.job.state === "running" && view?.seen !== what)) look(what);
  if (view?.seen === what) {
    if (name === "step") view.step();
    if (name === "frame") view.frame(more);
    if (name === "picture") view.picture(more);
    if (["job", "begin", "end"].includes(name)) view.state();
    if (["job", "remarks"].includes(name)) view.remarks();
  }
  if (name === "end") {
    const { state, pictures } = what.job;
    voice(state === "done" ? (pictures.length === 1 ? say("ready_one") : say("ready", { n: pictures.length })) : say(state));
    latest();
  }
  queue();
});

by("draw-page").append(ask_form.element, waiting, stage, suggest, recently);
const hall = gallery(act);
by("gallery-page").append(hall.element);
const school = trainings();
by("train-page").append(school.element);
by("train-page").setAttribute("aria-label", say("train_page"));
document.querySelector('nav a[href="#train"]').hidden = !facts.runs;
const board = evaluations();
by("evaluate-page").append(board.element);
by("evaluate-page").setAttribute("aria-label", say("studies_page"));
document.querySelector('nav a[href="#evaluate"]').hidden = !facts.evals;
by("draw-page").setAttribute("aria-label", say("draw_page"));
by("gallery-page").setAttribute("aria-label", say("gallery"));

/** The page that the address names. */
const turn = () => {
  const wanted = location.hash.slice(1), there = { gallery: true, train: facts.runs, evaluate: facts.evals }, page = there[wanted] ? wanted : "draw";
  for (const name of ["draw", "gallery", "train", "evaluate"]) {
    by(`${name}-page`).hidden = name !== page;
    const link = document.querySelector(`nav a[href="#${name}"]`);
    if (name === page) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = page === "draw" ? "Imagen" : `${say({ train: "train_page", evaluate: "studies_page" }[page] ?? page)} · Imagen`;
  school.watch(page === "train");
  if (page === "evaluate") board.load();
  if (page === "gallery") hall.load();
  if (page === "draw") latest();
};
addEventListener("hashchange", turn);
turn();
const kept = sessionStorage.getItem("imagen.kept");
if (kept) {
  sessionStorage.removeItem("imagen.kept");
  const { order, job } = JSON.parse(kept);
  ask_form.fill(order);
  ask_form.begin.restore(order);
  if (job) api.job(job).then((known) => { if (!view && !grid) look(jobs.see(known)); }, (problem) => toast(problem.message));
}
if (!by("draw-page").hidden) ask_form.prompt.focus();

document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); by("main").focus(); });

const help = () => {
  const rows = [["Ctrl Enter", "key_draw"], ["Alt Enter", "key_drafts"], ["Esc", "key_cancel"], ["1 2 3 4", "key_pages"], ["/", "key_prompt"], ["← →", "key_gallery"], ["c", "key_flip"], ["?", "key_help"]];
  const box = dialog(say("help"),
    make("button", { type: "button", class: "plain icon close", "aria-label": say("close"), onclick: () => box.close() }, "✕"),
    make("div", { class: "page" }, make("h2", {}, say("keys")),
      make("dl", {}, rows.flatMap(([keys, text]) => [make("dt", {}, keys.split(" ").flatMap((key) => [make("kbd", {}, key), " "])), make("dd", {}, say(text))])),
      make("p", { class: "soft" }, say("about")), make("p", { class: "soft num" }, `Imagen ${facts.version}`)));
};
by("help-open").addEventListener("click", help);

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask_form.send(event.altKey); return; }
  if (event.key === "Escape" && view && !over(view.seen.job)) { event.preventDefault(); view.stop(); return; }
  if (typing(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?") { event.preventDefault(); help(); }
  if (event.key === "1") location.hash = "#draw";
  if (event.key === "2") location.hash = "#gallery";
  if (event.key === "3" && facts.runs) location.hash = "#train";
  if (event.key === "4" && facts.evals) location.hash = "#evaluate";
  if (event.key === "/") { event.preventDefault(); (location.hash === "#gallery" ? hall.search : ask_form.prompt).focus(); }
});

// a picture that is dropped anywhere fills the form; it is read here and sent nowhere
document.body.dataset.drop = say("drop");
let inside = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); inside += 1; document.body.classList.add("over"); });
addEventListener("dragleave", () => { inside -= 1; if (inside <= 0) document.body.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("over");
  const file = event.dataTransfer?.files?.[0];
  if (!file) return;
  location.hash = "#draw";
  const begins = () => ask_form.begin.take(file);
  try {
    const order = await png.order(file);
    if (!order) return begins();
    act.fill(order);
    if (order.began) ask_form.begin.later(order.began);
    return toast(say(order.began ? "begin_other" : "dropped"), say("begin_this"), begins, 12);
  } catch { return toast(say("drop_large")); }
});
