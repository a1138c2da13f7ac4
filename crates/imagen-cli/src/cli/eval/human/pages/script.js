// Keys for the answers, and votes that wait for a server that is away. Without this file the pages are plain forms.
"use strict";

const form = document.querySelector("form.trial");
const follow = (selector) => { const link = document.querySelector(selector); if (link) location.assign(link.href); };

if (form) {
  const questions = [...form.querySelectorAll("fieldset")];
  const inputs = (question) => [...question.querySelectorAll("input")];
  const panels = [...document.querySelectorAll(".panel")];
  const status = form.querySelector(".status");
  const opened = performance.now();
  let active = 0, sent = false;

  const answered = (question) => inputs(question).some((input) => input.checked);
  const show = () => {
    questions.forEach((question, i) => question.classList.toggle("active", i === active));
    const sides = { left: 0, right: 1 }, chosen = questions[active] && inputs(questions[active]).find((input) => input.checked);
    panels.forEach((panel, i) => panel.classList.toggle("chosen", Boolean(chosen) && sides[chosen.value] === i));
  };

  const send = async () => {
    if (sent) return;
    sent = true;
    form.spent.value = Math.round(performance.now() - opened);
    const body = new URLSearchParams(new FormData(form));
    for (;;) {
      try {
        const reply = await fetch(form.action, { method: "POST", body });
        if (!reply.ok) throw new Error(reply.status);
        location.replace(reply.url);
        return;
      } catch {
        status.textContent = "The study cannot be reached. Your answer is kept here and sent again.";
        await new Promise((wait) => setTimeout(wait, 1500));
      }
    }
  };

  const next = () => {
    const open = questions.findIndex((question) => !answered(question));
    if (open < 0) send(); else { active = open; show(); }
  };

  const choose = (input) => {
    const at = questions.indexOf(input.closest("fieldset")), last = questions.length - 1;
    input.checked = true;
    const open = questions.findIndex((question) => !answered(question));
    if (at < last) active = at + 1; else active = open < 0 ? at : open;
    show();
    // the last choice is seen before the page goes on
    if (at === last && open < 0) setTimeout(send, 140);
  };

  // not `change`: the arrows would move within a focused group and answer on the way
  questions.forEach((question) => inputs(question).forEach((input) => input.closest("label").addEventListener("click", (event) => {
    event.preventDefault();
    if (sent) return;
    choose(input);
  })));
  form.addEventListener("submit", (event) => { event.preventDefault(); next(); });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || sent) return;
    const offered = inputs(questions[active]), last = offered.length - 1;
    const place = {
      ArrowLeft: 0, ArrowRight: last, 1: 0, 2: 1, 3: 2, ArrowDown: last === 2 ? 1 : -1,
    }[event.key];
    if (place !== undefined && offered[place]) {
      event.preventDefault();
      choose(offered[place]);
    } else if (event.key === "ArrowUp" && active > 0) {
      event.preventDefault();
      active -= 1;
      show();
    } else if (event.key === "Enter") {
      event.preventDefault();
      next();
    } else if (event.key === "Backspace") {
      event.preventDefault();
      follow("a.back");
    }
  });

  show();
  addEventListener("load", () => form.dataset.next.split(" ").filter(Boolean).forEach((url) => { new Image().src = url; }));
} else {
  document.addEventListener("keydown", (event) => { if (event.key === "Enter") follow("a.go"); });
}
