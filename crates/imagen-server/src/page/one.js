// One picture: how it was made, and what can be done with it.

import * as api from "./api.js";
import { dialog, make, toast, typing, voice } from "./dom.js";
import { moment, number, say } from "./words.js";

const table = (rows) => make("table", {}, make("tbody", {}, rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "num" }, value)))));

/** How each stage ran, a row each. */
const settings = (stages, sizes) => Object.entries(stages).map(([name, given]) =>
  [sizes[name] ? `${sizes[name]} px` : name, Object.entries(given).filter(([key]) => key !== "aug_level" || name !== "base").map(([key, value]) => `${say(key)} ${typeof value === "number" ? number(value, value % 1 ? 2 : 0) : value}`).join(" · ")]);

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
          larger ? make("button", { type: "button", onclick: () => { box.close(); act.draw({ ...shown.request, until: larger.stage }); } }, say("bigger", { size: `${larger.size} px` })) : null,
          make("button", { type: "button", onclick: () => choose(shown) }, say("compare")),
          make("a", { class: "button", href: shown.url, download: `imagen-${shown.seed}.png` }, say("download")),
          make("button", { type: "button", onclick: () => remove(shown) }, say("remove"))),
        make("h3", {}, say("how")),
        table([[say("model"), shown.model], [say("seed"), String(shown.seed)], [say("size"), `${shown.width} × ${shown.height}`], ...settings(shown.stages, act.sizes(shown)), [say("drawn_at"), moment(shown.created_ms)]]),
        make("div", { class: "command" }, code, make("button", { type: "button", "aria-label": `${say("copy")}: ${say("command")}`, onclick: async () => {
          // where a browser does not let pages copy, the text is chosen and the keys do it
          try { await navigator.clipboard.writeText(shown.command); } catch { return getSelection().selectAllChildren(code); }
          toast(say("copied"), null, null, 2);
        } }, say("copy")))));
    picture = shown;
  };

  /** Asks which picture to compare with: those of the same prompt first. */
  const choose = async (shown) => {
    const [same, latest] = await Promise.all([api.pictures({ search: shown.prompt.slice(0, 200), limit: "12" }), api.pictures({ limit: "24" })]);
    const others = new Map([...same.images, ...latest.images].filter((each) => each.id !== shown.id).map((each) => [each.id, each]));
    content.replaceChildren(make("div", { class: "page" }, make("h2", {}, say("compare_pick")),
      make("ul", { class: "wall small" }, [...others.values()].map((other) => make("li", {}, make("figure", {},
        make("button", { type: "button", class: "tile", "aria-label": say("open", { prompt: other.prompt }), onclick: () => compare(shown, other) },
          make("img", { src: `/api/v1/images/${other.id}/small`, alt: "" })),
        make("figcaption", {}, other.prompt)))))));
    content.querySelector("button")?.focus();
  };

  const compare = (left, right) => {
    const [below, above] = [left, right].map((each) => make("img", { src: each.url, alt: each.prompt }));
    above.className = "over";
    const pair = make("div", { class: "compare" }, below, above, make("div", { class: "cut", "aria-hidden": "true" }));
    const at = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": say("slider"), oninput: () => pair.style.setProperty("--at", `${at.value}%`) });
    const flip = () => { at.value = Number(at.value) < 50 ? "100" : "0"; at.dispatchEvent(new Event("input")); };
    const difference = make("button", { type: "button", "aria-pressed": "false", onclick: () => difference.setAttribute("aria-pressed", String(pair.classList.toggle("difference"))) }, say("difference"));
    content.replaceChildren(make("div", { class: "view" }, pair), make("div", { class: "about" },
      make("h2", {}, say("compare_with")), at,
      make("div", { class: "row" }, make("button", { type: "button", class: "flip", onclick: flip }, say("flip"), " ", make("kbd", {}, "c")), difference, make("button", { type: "button", onclick: () => show(left) }, say("close"))),
      table([[left.prompt, `${left.seed} · ${left.width} px`], [right.prompt, `${right.seed} · ${right.width} px`]])));
    at.focus();
  };

  box.addEventListener("keydown", (event) => {
    if (event.key === "c" && !typing(event)) content.querySelector(".flip")?.click();
    const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!way || typing(event)) return;
    const other = act.around(picture.id, way);
    if (other && content.querySelector(".command")) { event.preventDefault(); show(other); }
  });
  show(picture);
  return box;
};
