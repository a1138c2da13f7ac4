// Evaluations: sweeps of settings as curves, and what raters said of studies.

import * as api from "./api.js";
import { against } from "./chart.js";
import { make, toast } from "./dom.js";
import { moment, number, say } from "./words.js";

/** The page of evaluations. */
export const evaluations = () => {
  const sweeps = make("div", { class: "charts" }), studies = make("ul", { class: "runs studies" });

  const report = (found) => (found.report ? make("a", { class: "button", href: `/api/v1/evals/${encodeURIComponent(found.name)}/report`, target: "_blank", rel: "noopener" }, say("report")) : null);

  const sweep = (found) => make("section", { class: "sweep" },
    found.curves.length ? against(`${found.name}: ${found.title}`, found.axes, found.curves, found.note) : make("h3", {}, found.name),
    make("div", { class: "row" }, report(found), make("span", { class: "soft num" }, moment(found.changed_ms))));

  const study = (found) => {
    const raters = found.raters_url ? new URL(found.raters_url, location.href).href : null;
    return make("li", {},
      make("div", {}, make("b", {}, found.name), make("span", { class: "soft" }, ` ${found.suite} · ${found.sets.join(", ")}`)),
      make("span", { class: "soft num" }, say("raters", { n: number(found.votes), raters: number(found.raters) })),
      make("div", { class: "row" },
        raters ? make("a", { class: "button", href: raters, target: "_blank", rel: "noopener" }, say("raters_link")) : null,
        raters ? make("button", { type: "button", "aria-label": `${say("copy")}: ${say("raters_link")}, ${found.name}`, onclick: async (event) => {
          try { await navigator.clipboard.writeText(raters); toast(say("copied"), null, null, 2); } catch {
            // where a browser does not let pages copy, the address is there to be chosen
            const shown = make("code", {}, raters);
            event.target.replaceWith(shown);
            getSelection().selectAllChildren(shown);
          }
        } }, say("copy_link")) : null,
        found.votes ? report({ ...found, report: true }) : null),
      found.trouble ? make("p", { class: "soft" }, found.trouble) : null);
  };

  const load = async () => {
    try {
      const found = await api.evals();
      sweeps.replaceChildren(...(found.sweeps.length ? found.sweeps.map(sweep) : [make("p", { class: "empty" }, say("no_sweeps"))]));
      studies.replaceChildren(...(found.studies.length ? found.studies.map(study) : [make("li", { class: "empty" }, say("no_studies"))]));
    } catch (problem) { toast(problem.message); }
  };

  return {
    element: make("div", { class: "evals" }, make("h2", {}, say("studies")), studies, make("h2", {}, say("sweeps")), sweeps),
    load,
  };
};
