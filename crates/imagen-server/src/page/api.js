// The server, as far as this page asks it.

import { say } from "./words.js";

/** This browser, by a name that it chose: its jobs are found again by it. */
export const client = (() => {
  const known = localStorage.getItem("imagen.client");
  if (known) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const name = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  localStorage.setItem("imagen.client", name);
  return name;
})();

/** An answer; where there is none, what that means in place of the browser's own words. */
const reached = (asked) => asked.catch(() => { throw new Error(say("lost")); });

/** Asks the server; its words where it says no. */
const ask = async (method, path, body) => {
  const headers = { "X-Client": client };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await reached(fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
  const text = await answer.text();
  const value = text && answer.headers.get("Content-Type")?.startsWith("application/json") ? JSON.parse(text) : null;
  if (answer.ok) return value;
  const problem = new Error(value?.error?.message ?? `${answer.status} ${answer.statusText}`);
  problem.retryAfter = Number(answer.headers.get("Retry-After")) || 0;
  throw problem;
};

export const capabilities = () => ask("GET", "/api/v1/capabilities");
export const submit = (order) => ask("POST", "/api/v1/jobs", order);
export const jobs = () => ask("GET", "/api/v1/jobs");
export const job = (id) => ask("GET", `/api/v1/jobs/${id}`);
export const cancel = (id) => ask("DELETE", `/api/v1/jobs/${id}`);
export const again = (id) => ask("POST", `/api/v1/jobs/${id}/again`);
export const pictures = (query) => ask("GET", `/api/v1/images?${new URLSearchParams(query)}`);
export const favourite = (id, yes) => ask("PATCH", `/api/v1/images/${id}`, { favourite: yes });
export const remove = (id) => ask("DELETE", `/api/v1/images/${id}`);
export const restore = (id) => ask("POST", `/api/v1/images/${id}/restore`);

export const upload = (image) => ask("POST", "/api/v1/uploads", { image });

/** Several pictures as a zip. */
export const archive = async (ids) => {
  const answer = await reached(fetch("/api/v1/images/archive", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ids }) }));
  if (answer.ok) return answer.blob();
  throw new Error((await answer.json())?.error?.message ?? answer.statusText);
};

export const runs = () => ask("GET", "/api/v1/runs");
export const run = (name) => ask("GET", `/api/v1/runs/${encodeURIComponent(name)}`);

export const stopRun = (name) => ask("POST", `/api/v1/runs/${encodeURIComponent(name)}/stop`);
export const evals = () => ask("GET", "/api/v1/evals");

/** All that happens to this browser's jobs; `hear` gets names and data. A stream that breaks begins again by itself. */
export const listen = (hear) => {
  const source = new EventSource(`/api/v1/events?client=${client}`);
  for (const name of ["queue", "begin", "remarks", "step", "picture", "end", "missed"]) {
    source.addEventListener(name, (event) => hear(name, JSON.parse(event.data)));
  }
  source.addEventListener("open", () => hear("open", null));
  // one that begins again at once was not gone
  source.addEventListener("error", () => setTimeout(() => { if (source.readyState !== EventSource.OPEN) hear("lost", null); }, 1500));
};
