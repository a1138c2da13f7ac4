// One picture: how it was made, and what can be done with it.

import * as api from "./api.js";
import { comparing } from "./compare.js";
import { dialog, make, toast, typing, voice } from "./dom.js";
import { moment, number, say } from "./words.js";

const table = (rows) => make("table", {}, make("tbody", {}, rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "num" }, value)))));

/** How each stage ran, a row each. */
const settings = (stages, sizes) => Object.entries(stages).map(([name, given]) =>
  [sizes[name] ? `${sizes[name]} px` : name, Object.entries(given).filter(([key]) => key !== "aug_level" || name !== "base").map(([key, value]) => `${say(key)} ${typeof value === "number" ? number(value, value % 1 ? 2 : 0) : value}`).join(" · ")]);

/** How far variations are from a picture. */
const NEAR = 0.3;
/** Four seeds. */
const dice = () => [...crypto.getRandomValues(new Uint32Array(4))];

/** What a picture began with, to be looked at and kept under the names that its command has. */
const began = ({ begin, seeds, sr_seeds: details, vary }) => {
  const rows = [];
  const link = (id, name) => make("a", { href: `/api/v1/uploads/${id}/file`, download: name }, name);
  if (begin) rows.push([say("begin_with"), make("span", {}, link(begin.picture, "start.png"), begin.mask ? [", ", link(begin.mask, "mask.png")] : "", begin.strength === undefined ? "" : ` · ${say("strength")} ${number(begin.strength * 100)} %`)]);
  if (details && details[0] !== seeds[0]) rows.push([say("sr_seed"), String(details[0])]);
  if (vary) rows.push([say("variation"), say("variation_of", { part: number(vary.part * 100), seed: vary.seed })]);
  return rows;
};

/** Opens a picture. `act`: `fill(order)`, `draw(order)`, `larger(picture)`, `around(id, way)`, `changed`, `gone`, `back`. */
export const one = (picture, act) => {
  const box = dialog(picture.prompt, make("button", { type: "button", class: "plain icon close", "aria-label": say("close"), onclick: () => box.close() }, "✕"));
  const content = make("div", { class: "one" });
  box.append(content);

  const remove = async (shown) => {
    try {
      await api.remove(shown.id);
      box.close();
      act.gone(shown.id);
      voice(say("removed"));
      toast(say("removed"), say("undo"), async () => {
        try { await api.restore(shown.id); act.back(); } catch (problem) { toast(problem.message); }
      }, 15);
    } catch (problem) { toast(problem.message); }
  };

  /** Draws what is near a picture. */
  const near = (shown, order) => {
    const { sr_seeds: _, count: __, batch: ___, ...rest } = shown.request;
    box.close();
    act.draw(order(rest));
  };

  const show = (shown) => {
    const star = make("button", { type: "button", class: "star", "aria-pressed": String(shown.favourite), onclick: async () => {
      try {
        const changed = await api.favourite(shown.id, !shown.favourite);
        act.changed(changed);
        show(changed);
        content.querySelector(".star").focus();
      } catch (problem) { toast(problem.message); }
    } }, shown.favourite ? "♥ " : "♡ ", say("favourite"));
    const larger = act.larger(shown);
    const code = make("code", {}, shown.command);
    content.replaceChildren(
      make("div", { class: "view" }, make("img", { src: shown.url, alt: shown.prompt, width: shown.width, height: shown.height, class: shown.width <= 64 ? "crisp" : "" })),
      make("div", { class: "about" },
        make("h2", {}, shown.prompt || "—"),
        make("div", { class: "row" },
          star,
          make("button", { type: "button", onclick: () => { box.close(); act.fill(shown.request); } }, say("same")),
          make("button", { type: "button", onclick: () => { box.close(); act.begin({ id: shown.id, url: shown.url }); } }, say("begin_this")),
          shown.request.vary ? null : make("button", { type: "button", title: say("vary_hint"), onclick: () => near(shown, ({ seeds: _, ...rest }) => ({ ...rest, seeds: dice(), vary: { seed: shown.seed, part: NEAR } })) }, say("vary")),
          act.enlarged(shown) ? make("button", { type: "button", title: say("details_hint"), onclick: () => near(shown, (rest) => ({ ...rest, seeds: Array(4).fill(shown.request.seeds[0]), sr_seeds: dice() })) }, say("details")) : null,
          larger ? make("button", { type: "button", onclick: () => { box.close(); act.draw({ ...shown.request, until: larger.stage }); } }, say("bigger", { size: `${larger.size} px` })) : null,
          make("button", { type: "button", onclick: () => choose(shown) }, say("compare")),
          make("a", { class: "button", href: shown.url, download: `imagen-${shown.seed}.png` }, say("download")),
          make("button", { type: "button", onclick: () => remove(shown) }, say("remove"))),
        make("h3", {}, say("how")),
        table([[say("model"), shown.model], [say("seed"), String(shown.seed)], [say("size"), `${shown.width} × ${shown.height}`], ...settings(shown.stages, act.sizes(shown)), [say("drawn_at"), moment(shown.created_ms)], ...began(shown.request)]),
        make("div", { class: "command" }, code, make("button", { type: "button", "aria-label": `${say("copy")}: ${say("command")}`, onclick: async () => {
          // where a browser does not let pages copy, the text is chosen and the keys do it
          try { await navigator.clipboard.writeText(shown.command); } catch { return getSelection().selectAllChildren(code); }
          toast(say("copied"), null, null, 2);
        } }, say("copy")))));
    picture = shown;
  };

  const choose = comparing(content, act, (shown) => show(shown));
  box.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way || typing(event)) return;
    const other = act.around(picture.id, way);
    if (other && content.querySelector(".command")) { event.preventDefault(); show(other); }
  });
  show(picture);
  return box;
};
