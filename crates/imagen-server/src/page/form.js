// The prompt and its settings. All that can be set comes from the server's capabilities, so that nothing is missing here.

import { asking } from "./axes.js";
import { make } from "./dom.js";
import { say } from "./words.js";

/** Drafts are drawn so many at a time. */
const DRAFTS = 9;

/** The form; `draw` gets an order, `compare` an order and the axes of a sheet. */
export const form = (facts, draw, compare) => {
  const models = facts.models;
  let model = models[0], until = model.default_until;
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
  const negative = make("input", { type: "text", maxLength: facts.limits.prompt_characters, autocomplete: "off" });
  const chooser = make("select", { onchange: () => { choose(chooser.value); } }, models.map((each) => make("option", { value: each.name }, each.name)));
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
    if (!model.stages.some((stage) => stage.stage === until)) until = model.default_until;
    inputs.clear();
    sizes.replaceChildren(make("legend", {}, say("size")), ...model.stages.map((stage) => make("label", {},
      make("input", { type: "radio", name: "size", value: stage.stage, checked: stage.stage === until, onchange: () => size(stage.stage) }),
      make("span", {}, String(stage.size)))));
    const general = make("fieldset", {},
      models.length > 1 ? field(say("model"), chooser) : null,
      make("label", { class: "field wide" }, make("span", {}, say("negative")), negative),
      field(say("count"), count),
      field(say("seed"), make("span", { class: "joined" }, seed, dice)));
    const axes = model.stages.flatMap((stage) => facts.settings.filter((setting) => !setting.enlarging || stage.stage !== "base").map((setting) => {
      const standard = stage.defaults[setting.name] ?? setting.standard, isNumber = setting.kind !== "choice" && setting.kind !== "text";
      const round = (value) => (setting.kind === "integer" ? Math.max(1, Math.round(value)) : Number(value.toPrecision(3)));
      const example = setting.kind === "text" ? String(standard) : isNumber ? [standard / 2, standard, standard * 2].map(round).filter((value) => value <= setting.most).join(", ") : setting.choices.join(", ");
      return { name: `${stage.stage}.${setting.name}`, label: `${say(setting.name)}, ${stage.size} px`, isNumber, example };
    }));
    axes.push({ name: "seed", label: say("seed"), isNumber: true, example: "1, 2, 3" });
    stages.replaceChildren(general, ...model.stages.map(fieldsOf), asking(axes, (chosen) => sheet(chosen)));
    size(until);
  };
  choose(model.name);

  const order = () => {
    const given = { prompt: prompt.value.trim(), model: model.name, until, stages: {} };
    for (const [name, element] of inputs) {
      const [stage, setting] = name.split(".");
      if (element.value === "" || !running().some((each) => each.stage === stage)) continue;
      (given.stages[stage] ??= {})[setting] = element.type === "number" ? Number(element.value) : element.value.trim();
    }
    if (negative.value.trim()) given.negative = negative.value.trim();
    if (seed.value !== "") given.seed = Number(seed.value);
    return given;
  };

  const send = (drafts) => {
    const whole = [...element.querySelectorAll("input")].every((each) => each.reportValidity());
    if (!whole) return;
    localStorage.setItem("imagen.prompt", prompt.value);
    const given = order();
    if (!drafts) return draw({ ...given, count: Number(count.value) || 1 });
    const first = model.stages[0].stage, own = given.stages[first];
    return draw({ ...given, until: first, stages: own ? { [first]: own } : {}, count: DRAFTS, batch: Math.min(DRAFTS, facts.limits.batch) });
  };

  /** A sheet: axes of stages that do not run are none. */
  const sheet = (axes) => {
    const last = model.stages.findIndex((each) => each.stage === until);
    const runs = axes.every(({ name }) => name === "seed" || model.stages.findIndex((each) => each.stage === name.split(".")[0]) <= last);
    const given = order();
    if (given.seed === undefined) given.seed = crypto.getRandomValues(new Uint32Array(1))[0];
    return compare(given, axes, runs);
  };

  const settings = make("details", { class: "settings" }, make("summary", {}, say("settings")), stages);
  const element = make("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); send(false); } },
    prompt,
    make("div", { class: "row" },
      make("button", { class: "main go" }, say("draw")),
      make("button", { type: "button", class: "go", title: say("drafts_hint"), onclick: () => send(true) }, say("drafts")),
      sizes),
    settings);
  prompt.addEventListener("keydown", (event) => {
    // with Ctrl the page hears it, wherever the focus is
    if (event.key !== "Enter" || event.isComposing || event.shiftKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    send(event.altKey);
  });

  return {
    element, prompt, send,
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
      const first = given.seeds?.[0] ?? given.seed;
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
      settings.open ||= changed;
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
