// The prompt and its settings. All that can be set comes from the server's capabilities, so that nothing is missing here.

import { asking, choicesOf } from "./axes.js";
import { beginning } from "./begin.js";
import { make, toast, voice } from "./dom.js";
import { number, say } from "./words.js";

/** Drafts are drawn so many at a time. */
const DRAFTS = 9;

/** The form; `draw` gets an order, `compare` an order and the axes of a sheet, `changed` the model that draws. */
export const form = (facts, draw, compare, changed) => {
  const models = facts.models;
  let model = models.find((each) => each.name === localStorage.getItem("imagen.model")) ?? models[0], until = model.default_until;
  const remembered = localStorage.getItem("imagen.size");
  if (model.stages.some((stage) => stage.stage === remembered)) until = remembered;

  const prompt = make("textarea", {
    id: "prompt", rows: 1, "aria-label": say("prompt"), placeholder: say("prompt_hint"), maxLength: facts.limits.prompt_characters,
    autocomplete: "off", spellcheck: false,
    // where the browser does not grow it by itself
    oninput: () => { if (!CSS.supports("field-sizing", "content")) { prompt.style.height = "auto"; prompt.style.height = `${prompt.scrollHeight}px`; } },
  });
  prompt.value = localStorage.getItem("imagen.prompt") ?? "";
  const sizes = make("fieldset", { class: "sizes" });
  const count = make("input", { type: "number", min: 1, max: facts.limits.count, value: "1", inputMode: "numeric" });
  const seed = make("input", { type: "number", min: 0, max: facts.limits.seed, placeholder: say("random"), inputMode: "numeric" });
  const dice = make("button", { type: "button", class: "icon", "aria-label": say("dice"), title: say("dice"), onclick: () => { seed.value = ""; seed.focus(); } }, "⚄");
  const other = make("input", { type: "number", min: 0, max: facts.limits.seed, placeholder: say("as_seed"), inputMode: "numeric" });
  let vary = null;
  const varied = make("span", { class: "num" }), variation = make("div", { class: "field", hidden: true }, make("span", {}, say("variation")), make("span", { class: "joined" }, varied, make("button", { type: "button", class: "plain icon", "aria-label": say("variation_none"), onclick: () => { varies(null); seed.focus(); } }, "✕")));
  const varies = (given) => {
    vary = given;
    variation.hidden = !given;
    if (given) varied.textContent = say("variation_of", { part: number(given.part * 100), seed: given.seed });
  };
  const lock = make("input", { type: "checkbox" });
  const negative = make("input", { type: "text", maxLength: facts.limits.prompt_characters, autocomplete: "off" });
  const chooser = make("select", { class: "model", "aria-label": say("model"), onchange: () => { choose(chooser.value); } }, models.map((each) => make("option", { value: each.name }, each.name)));
  const stages = make("div", { class: "fields" });
  const inputs = new Map();

  const field = (label, ...content) => make("label", { class: "field" }, make("span", {}, label), ...content);

  /** What a setting is asked for with. */
  const input = (setting, standard) => {
    if (setting.kind === "text") return make("input", { type: "text", placeholder: String(standard), autocomplete: "off" });
    if (setting.kind === "choice") {
      const choices = setting.choices.includes(standard) ? setting.choices : [standard, ...setting.choices];
      return make("select", {}, make("option", { value: "" }, String(standard)), choices.filter((choice) => choice !== standard).map((choice) => make("option", { value: choice }, choice)));
    }
    return make("input", { type: "number", min: setting.least, max: setting.most, step: setting.kind === "integer" ? 1 : "any", placeholder: String(standard), inputMode: "decimal" });
  };

  const running = () => model.stages.filter((stage) => model.stages.indexOf(stage) <= model.stages.findIndex((each) => each.stage === until));

  const fieldsOf = (stage) => {
    const own = facts.settings.filter((setting) => !setting.enlarging || stage.stage !== "base").map((setting) => {
      const element = input(setting, stage.defaults[setting.name] ?? setting.standard);
      inputs.set(`${stage.stage}.${setting.name}`, element);
      return field(say(setting.name), element);
    });
    return make("fieldset", { "data-stage": stage.stage }, make("legend", {}, say(stage.stage, { size: stage.size })), own);
  };

  const size = (value) => {
    until = value;
    localStorage.setItem("imagen.size", value);
    for (const fields of stages.querySelectorAll("[data-stage]")) fields.hidden = !running().some((stage) => stage.stage === fields.dataset.stage);
  };

  const choose = (name) => {
    model = models.find((each) => each.name === name) ?? models[0];
    chooser.value = model.name;
    localStorage.setItem("imagen.model", model.name);
    if (!model.stages.some((stage) => stage.stage === until)) until = model.default_until;
    inputs.clear();
    sizes.replaceChildren(make("legend", {}, say("size")), ...model.stages.map((stage) => make("label", {},
      make("input", { type: "radio", name: "size", value: stage.stage, checked: stage.stage === until, onchange: () => size(stage.stage) }),
      make("span", {}, String(stage.size)))));
    const general = make("fieldset", {},
      make("label", { class: "field wide" }, make("span", {}, say("negative")), negative),
      field(say("count"), count),
      field(say("seed"), make("span", { class: "joined" }, seed, dice)),
      variation,
      model.stages.length > 1 ? field(say("sr_seed"), other) : null,
      model.stages.length > 1 ? make("label", { class: "field check", title: say("lock_hint") }, lock, make("span", {}, say("lock"))) : null);
    const axes = choicesOf(facts, model);
    axes.push({ name: "seed", label: say("seed"), isNumber: true, example: "1, 2, 3" });
    stages.replaceChildren(general, ...model.stages.map(fieldsOf), asking(axes, (chosen) => sheet(chosen)));
    size(until);
    begin?.show();
    changed(model);
  };
  let begin = null;
  choose(model.name);

  const file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp", hidden: true, tabIndex: -1, onchange: () => { if (file.files[0]) begin.take(file.files[0]); file.value = ""; } });
  const from = make("button", { type: "button", class: "go", onclick: () => file.click() }, say("begin_choose"));
  // what draws changes with what is drawn from
  begin = beginning(facts, () => model, (way) => {
    from.hidden = way !== null;
    drafts.hidden = sizes.hidden = way === "larger";
  });
  begin.build();

  const random = () => crypto.getRandomValues(new Uint32Array(1))[0];

  /** What is asked for, without what it begins with. */
  const words = () => {
    const given = { prompt: prompt.value.trim(), model: model.name, until, stages: {} };
    for (const [name, element] of inputs) {
      const [stage, setting] = name.split(".");
      if (element.value === "" || !running().some((each) => each.stage === stage)) continue;
      (given.stages[stage] ??= {})[setting] = element.type === "number" ? Number(element.value) : element.value.trim();
    }
    if (negative.value.trim()) given.negative = negative.value.trim();
    if (seed.value !== "") given.seed = Number(seed.value);
    if (vary) given.vary = vary;
    if (other.value !== "" && running().length > 1) given.sr_seed = Number(other.value);
    return given;
  };

  /** What is asked for, its pictures sent. */
  const order = async () => {
    const given = words(), begun = await begin.order();
    if (!begun) return given;
    if (begun.from) {
      const first = model.stages.findIndex((stage) => stage.stage === begun.from);
      given.stages = Object.fromEntries(Object.entries(given.stages).filter(([name]) => model.stages.findIndex((stage) => stage.stage === name) >= first));
    }
    return { ...given, ...begun };
  };

  const send = async (small) => {
    const wrong = [...element.querySelectorAll("input")].find((each) => !each.checkValidity() && !each.closest("[hidden]"));
    if (wrong) {
      // a browser says what is wrong of what is seen alone
      if (settings.contains(wrong)) settings.open = true;
      return wrong.reportValidity();
    }
    localStorage.setItem("imagen.prompt", prompt.value);
    let given;
    try { given = await order(); } catch (problem) { voice(problem.message); return toast(problem.message); }
    const pictures = Number(count.value) || 1;
    if (lock.checked && pictures > 1 && running().length > 1 && !given.from && !small) {
      const { seed: one = random(), sr_seed: first = one, ...rest } = given;
      return draw({ ...rest, seeds: Array(pictures).fill(one), sr_seed: first });
    }
    if (!small || given.from) return draw({ ...given, count: pictures });
    const first = model.stages[0].stage, own = given.stages[first];
    delete given.sr_seed;
    return draw({ ...given, until: first, stages: own ? { [first]: own } : {}, count: DRAFTS, batch: Math.min(DRAFTS, facts.limits.batch) });
  };

  /** A sheet: axes of stages that do not run are none. */
  const sheet = async (axes) => {
    const last = model.stages.findIndex((each) => each.stage === until);
    const runs = axes.every(({ name }) => name === "seed" || model.stages.findIndex((each) => each.stage === name.split(".")[0]) <= last);
    let given;
    try { given = await order(); } catch (problem) { return toast(problem.message); }
    given.seed ??= random();
    return compare(given, axes, runs);
  };

  const drafts = make("button", { type: "button", class: "go", title: say("drafts_hint"), onclick: () => send(true) }, say("drafts"));
  const settings = make("details", { class: "settings" }, make("summary", {}, say("settings")), stages);
  const element = make("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); send(false); } },
    prompt,
    make("div", { class: "row" },
      make("button", { class: "main go" }, say("draw")),
      drafts, from, file, sizes, models.length > 1 ? chooser : null),
    begin.element, settings);
  prompt.addEventListener("keydown", (event) => {
    // with Ctrl the page hears it, wherever the focus is
    if (event.key !== "Enter" || event.isComposing || event.shiftKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    send(event.altKey);
  });

  return {
    element, prompt, send, begin, words, order,
    model: () => model,
    until: () => until,
    /** Takes the settings of an order: what is as the stages suggest stays open. */
    fill: (given) => {
      choose(models.some((each) => each.name === given.model) ? given.model : model.name);
      if (model.stages.some((stage) => stage.stage === given.until)) {
        size(given.until);
        for (const radio of sizes.querySelectorAll("input")) radio.checked = radio.value === given.until;
      }
      prompt.value = given.prompt ?? "";
      negative.value = given.negative ?? "";
      const first = given.seeds?.[0] ?? given.seed, second = given.sr_seeds?.[0] ?? given.sr_seed;
      varies(given.vary ?? null);
      other.value = second === undefined ? "" : String(second);
      lock.checked = (given.seeds?.length ?? 0) > 1 && new Set(given.seeds).size === 1;
      seed.value = first === undefined ? "" : String(first);
      count.value = String(given.seeds?.length ?? given.count ?? 1);
      let changed = false;
      for (const [name, element] of inputs) {
        const [stage, setting] = name.split(".");
        const value = given.stages?.[stage]?.[setting];
        const standard = model.stages.find((each) => each.stage === stage)?.defaults[setting] ?? facts.settings.find((each) => each.name === setting)?.standard;
        element.value = value === undefined || value === standard ? "" : String(value);
        if (element.tagName === "SELECT" && element.value === "" && value !== undefined && value !== standard) {
          element.append(make("option", { value: String(value) }, String(value)));
          element.value = String(value);
        }
        changed ||= element.value !== "";
      }
      settings.open ||= changed || vary !== null || other.value !== "";
      prompt.dispatchEvent(new Event("input"));
    },
    /** The stage that drafts are enlarged to, and its size. */
    larger: (from) => {
      const at = model.stages.findIndex((stage) => stage.stage === from);
      const wanted = model.stages.findIndex((stage) => stage.stage === until);
      return model.stages[Math.max(wanted, at + 1)] ?? null;
    },
  };
};
