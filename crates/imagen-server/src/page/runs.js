// Trainings while they go on: curves of the runs that are chosen, and the grids of one over time.

import * as api from "./api.js";
import { overSteps as chart } from "./chart.js";
import { dialog, make, toast, voice } from "./dom.js";
import { moment, number, say } from "./words.js";

/** How often runs are looked at while they are in view. */
const EVERY = 5000;

/** The page of trainings. */
export const trainings = () => {
  const list = make("ul", { class: "runs" }), facts = make("div", { class: "scroll facts-of-runs", tabindex: 0, role: "region", "aria-label": say("compare_runs") }), charts = make("div", { class: "charts" }), film = make("div", { class: "over-time" });
  const chosen = new Set(), shown = { name: null, at: null };
  let timer = null;

  const state = (run) => {
    const told = [`${number(run.step)} / ${number(run.steps)}`];
    if (run.alive && run.pictures_per_second) told.push(say("per_second", { n: number(run.pictures_per_second, 1) }));
    told.push(run.alive && run.eta_seconds ? say("minutes_left", { n: number(Math.ceil(run.eta_seconds / 60)) }) : moment(run.changed_ms));
    return told.join(" · ");
  };

  /** Asks first: who trains for days does not want to stop by a slip. */
  const stop = (run) => {
    const box = dialog(say("stop"), make("div", { class: "page ask-first" }, make("h2", {}, run.name), make("p", {}, say("stop_sure")),
      make("div", { class: "row" },
        make("button", { type: "button", class: "main", onclick: async () => {
          box.close();
          try { await api.stopRun(run.name); stopping.add(run.name); voice(say("stopping")); toast(say("stopping")); load(); } catch (problem) { toast(problem.message); }
        } }, say("stop")),
        make("button", { type: "button", onclick: () => box.close() }, say("close")))));
    box.querySelector("button:not(.main)").focus();
  };
  const stopping = new Set();

  const time = (seconds) => (seconds > 5400 ? say("hours", { n: number(seconds / 3600, 1) }) : say("minutes", { n: number(Math.max(1, Math.round(seconds / 60))) }));

  /** Numbers of the runs that are chosen, beside each other. */
  const compared = (runs) => {
    const last = (run, curve, digits = 4) => (run.curves[curve].length ? number(run.curves[curve].at(-1)[1], digits) : "—");
    const rows = [
      [say("size"), (run) => `${run.size} px`], [say("step"), (run) => `${number(run.step)} / ${number(run.steps)}`],
      [say("loss"), (run) => last(run, "loss")], [say("validation"), (run) => last(run, "validation")],
      [`${say("probe")}: ${say("right_caption")}`, (run) => last(run, "right_caption")], [`${say("probe")}: ${say("no_caption")}`, (run) => last(run, "no_caption")], [`${say("probe")}: ${say("shuffled_captions")}`, (run) => last(run, "shuffled_captions")],
      [say("gradient"), (run) => last(run, "gradient_norm", 2)],
      [say("parameters"), (run) => (run.plan ? `${number(run.plan.parameters / 1e6, 1)} M` : "—")],
      [say("plan"), (run) => (run.plan ? say("plan_note", { seconds: run.plan.seconds ? time(run.plan.seconds) : "—", memory: `${number(run.plan.memory / 2 ** 30, 1)} GiB` }) : "—")],
    ];
    facts.hidden = runs.length === 0;
    facts.replaceChildren(make("table", {},
      make("thead", {}, make("tr", {}, make("td", {}), runs.map((run) => make("th", { scope: "col" }, run.name)))),
      make("tbody", {}, rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), runs.map((run) => make("td", { class: "num" }, value(run))))))),
    ...runs.flatMap((run) => run.plan?.warnings ?? []).map((warning) => make("p", { class: "soft" }, warning)));
  };

  const look = async () => {
    const runs = (await Promise.all([...chosen].map((name) => api.run(name).catch(() => null)))).filter(Boolean);
    const named = (curve, kind) => runs.filter((run) => run.curves[curve].length).map((run) => ({ label: `${run.name}${kind ? `, ${say(curve).toLocaleLowerCase()}` : ""}`, points: run.curves[curve], kind }));
    const alone = runs.length === 1 ? runs[0] : null;
    compared(runs);
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
    const prompts = make("ol", { class: "prompts" }, (last.prompts ?? []).map((prompt) => make("li", {}, prompt)));
    prompts.style.setProperty("--columns", last.columns ?? 1);
    return film.replaceChildren(make("h3", {}, say("grids")), image, range, note, last.prompts?.length ? prompts : make("p", { class: "soft" }, say("grid_enlarged")));
  };

  const load = async () => {
    try {
      const { runs } = await api.runs();
      if (chosen.size === 0 && runs.length) chosen.add(runs[0].name);
      const focused = document.activeElement?.dataset?.run;
      for (const name of stopping) if (!runs.some((run) => run.name === name && run.alive)) stopping.delete(name);
      list.replaceChildren(...runs.map((run) => make("li", { class: run.alive ? "goes-on" : "" }, make("label", {},
        make("input", { type: "checkbox", "data-run": run.name, checked: chosen.has(run.name), onchange: (event) => { if (event.target.checked) chosen.add(run.name); else chosen.delete(run.name); look(); } }),
        make("span", {}, make("b", {}, run.name), ` ${run.size} px`, run.alive ? make("span", { class: "alive" }, say("alive")) : null),
        make("span", { class: "soft num" }, state(run)), make("progress", { max: run.steps, value: run.step, "aria-label": run.name })),
        run.alive ? make("button", { type: "button", disabled: stopping.has(run.name), "data-run": `stop ${run.name}`, "aria-label": `${say("stop")}: ${run.name}`, onclick: () => stop(run) }, say(stopping.has(run.name) ? "stopping" : "stop")) : null)));
      if (focused) list.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
      if (runs.length === 0) list.replaceChildren(make("li", { class: "empty" }, say("no_runs")));
      await look();
    } catch (problem) { toast(problem.message); }
  };

  return {
    element: make("div", {}, make("h2", { class: "unseen" }, say("train_page")), list, charts, facts, film),
    /** Looks now and then, until it is out of view. */
    watch: (inView) => {
      clearInterval(timer);
      if (!inView) return;
      load();
      timer = setInterval(() => { if (document.visibilityState === "visible") load(); }, EVERY);
    },
  };
};
