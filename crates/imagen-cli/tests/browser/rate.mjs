// Simulated raters who see the real pages in a headless Chromium and answer with the keyboard alone.
//
//   npm install --prefix crates/imagen-cli/tests/browser
//   node crates/imagen-cli/tests/browser/rate.mjs STUDY --raters 25 --prefer full --rate 0.75
//
// Which set stands where is not on the pages. The script is told by what it is shown: it asks the server for the pictures of
// each side, as the browser does, and finds them among the study's files by their pixels. --prefer NAME --rate P: that set is
// preferred with this probability wherever it is seen; without, sides are chosen by a coin. One in five is indifferent.
// Controls (a side that is in no file) are answered rightly; by --careless N raters at random. --shots FOLDER keeps pictures
// of the pages. --program PATH is the program, --mode MODE the study.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inflateSync } from "node:zlib";
import puppeteer from "puppeteer-core";

const options = { raters: 25, rate: 0.5, careless: 0, parallel: 4, seed: 1, mode: "drawbench", program: "target/release/imagen", browser: "/usr/bin/chromium" };
const [study, ...rest] = process.argv.slice(2);
for (let i = 0; i < rest.length; i += 2) options[rest[i].slice(2)] = rest[i + 1];
for (const name of ["raters", "rate", "careless", "parallel", "seed"]) options[name] = Number(options[name]);

/** A machine that does other things too may take so many milliseconds for a page. */
const PATIENCE = 300_000;

/** The pixels of a PNG as a name: text and compression do not count. */
const fingerprint = (png) => {
  const header = png.subarray(16, 29), parts = [];
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at);
    if (png.toString("latin1", at + 4, at + 8) === "IDAT") parts.push(png.subarray(at + 8, at + 8 + length));
    at += 12 + length;
  }
  return createHash("sha256").update(header).update(inflateSync(Buffer.concat(parts))).digest("hex");
};

/** Numbers in [0, 1) from a seed and a name. */
const dice = (name) => {
  let n = 0;
  return () => createHash("sha256").update(`${options.seed} ${name} ${n++}`).digest().readUInt32BE(0) / 2 ** 32;
};

const manifest = JSON.parse(readFileSync(join(study, "study.json")));
const owners = new Map();
for (const set of manifest.sets) {
  set.files.flat().forEach((file) => {
    if (file.endsWith(".png")) owners.set(fingerprint(readFileSync(join(study, file))), set.name);
  });
}

const server = spawn(options.program, ["eval", "human", "serve", study, "--mode", options.mode, "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
const address = await new Promise((found, failed) => {
  server.stdout.once("data", (line) => found(line.toString().trim()));
  server.once("exit", (code) => failed(new Error(`the server ended with ${code}`)));
});

const browser = await puppeteer.launch({ executablePath: options.browser, args: ["--no-sandbox", "--disable-gpu"], protocolTimeout: PATIENCE });
let pages = 0, foreign = 0, pressed = 0;

/** The set that a side shows; null where it is spoilt. */
const owner = async (url) => owners.get(fingerprint(Buffer.from(await (await fetch(url)).arrayBuffer()))) ?? null;

/** The key for a question, from what is seen. */
const decide = (sides, careless, random) => {
  if (sides.length === 1) return ["ArrowLeft", "ArrowDown", "ArrowRight"][sides[0] === null ? 2 : random() < options.rate ? 0 : 2];
  const intact = sides.findIndex((side) => side !== null), control = sides.includes(null);
  if (control && !careless) return ["ArrowLeft", "ArrowRight"][intact];
  if (options.mode === "drawbench" && random() < 0.2) return "ArrowDown";
  const liked = sides.indexOf(options.prefer);
  if (control || liked < 0) return random() < 0.5 ? "ArrowLeft" : "ArrowRight";
  return ["ArrowLeft", "ArrowRight"][random() < options.rate ? liked : 1 - liked];
};

/** Presses a key that leads to another page; a person would press again where nothing happens. */
const go = async (page, key) => {
  for (let tries = 0; tries < 5; tries += 1) {
    try {
      await Promise.all([page.waitForNavigation({ timeout: PATIENCE / 10 }), page.keyboard.press(key)]);
      return;
    } catch (error) {
      if (error.name !== "TimeoutError") throw error;
      pressed += 1;
    }
  }
  throw new Error(`${key} leads nowhere from ${page.url()}`);
};

const rate = async (name, careless, shots) => {
  const random = dice(name), context = await browser.createBrowserContext(), page = await context.newPage();
  page.on("request", (request) => { if (!request.url().startsWith(address)) foreign += 1; });
  const shot = async (what) => { if (shots) await page.screenshot({ path: join(shots, `${what}.png`) }); };
  page.setDefaultTimeout(PATIENCE);
  // every page takes keys, as the one that its rater looks at
  const tools = await page.createCDPSession();
  await tools.send("Emulation.setFocusEmulationEnabled", { enabled: true });
  await page.setViewport({ width: 1180, height: 860 });
  await page.goto(address);
  await shot("start");
  await page.focus("#rater");
  await page.keyboard.type(name);
  await go(page, "Enter");
  for (let seen = 0; ; seen += 1) {
    const url = page.url();
    if (url.includes("/done/")) break;
    if (url.includes("/rest/")) {
      await shot("rest");
      await go(page, "Enter");
      continue;
    }
    const firsts = await page.$$eval(".panel", (panels) => panels.map((panel) => panel.querySelector("img").src));
    const sides = await Promise.all(firsts.map(owner));
    const questions = (await page.$$("fieldset")).length;
    if (shots && seen < 3) await shot(`trial-${seen}`);
    if (shots && seen === 3) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
      await shot("dark");
      await page.setViewport({ width: 390, height: 844, isMobile: true, hasTouch: true });
      await shot("phone");
      await page.emulateMediaFeatures([]);
      await page.setViewport({ width: 1180, height: 860 });
    }
    const before = await page.$eval("[name=trial]", (input) => input.value);
    for (let question = 0; question < questions - 1; question += 1) await page.keyboard.press(decide(sides, careless, random));
    if (shots && seen === 2) await shot("second-question");
    await go(page, decide(sides, careless, random));
    // a correction by keyboard, once a rater
    if (seen === 1 && !page.url().includes("/done/")) {
      await go(page, "Backspace");
      if ((await page.$eval("[name=trial]", (input) => input.value)) !== before) throw new Error("back leads elsewhere");
      await go(page, "Enter");
    }
    pages += 1;
  }
  await shot("done");
  await context.close();
};

let failure = null;
try {
  if (options.shots) mkdirSync(options.shots, { recursive: true });
  const queue = Array.from({ length: options.raters }, (_, k) => k);
  const worker = async () => {
    for (let k = queue.shift(); k !== undefined; k = queue.shift()) {
      await rate(`rater-${k + 1}`, k < options.careless, k === options.raters - 1 ? options.shots : null);
    }
  };
  await Promise.all(Array.from({ length: options.parallel }, worker));
  if (foreign > 0) throw new Error(`${foreign} requests went elsewhere`);
  console.log(`${options.raters} raters, ${pages} pages, no request to anywhere else, ${pressed} keys pressed again`);
} catch (error) {
  failure = error;
} finally {
  await browser.close();
  server.removeAllListeners("exit");
  server.kill("SIGINT");
}
if (failure) throw failure;
