// This browser's jobs, with what was seen of them: x̂ of every step.

import * as api from "./api.js";

/** The pictures of a preview lie below each other in one. */
const decode = async ({ type, data }) => {
  const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type }));
};

/** Whether nothing more will happen to a job. */
export const over = (job) => !["queued", "running"].includes(job.state);

/** The jobs; `changed(name, seen)` hears what happened to which, or to the queue. */
export const watch = (changed) => {
  const all = new Map();
  let lost = false;

  const see = (job) => {
    const seen = all.get(job.id) ?? { frames: [], step: null, decoding: Promise.resolve() };
    seen.job = job;
    all.set(job.id, seen);
    return seen;
  };

  const look = async () => {
    const { jobs, queue } = await api.jobs();
    for (const job of jobs.reverse()) changed("job", see(job));
    changed("queue", queue);
  };

  const known = async (id) => all.get(id) ?? see(await api.job(id));

  const hear = async (name, data) => {
    if (name === "open") {
      await look();
      if (lost) changed("back", null);
      lost = false;
    } else if (name === "lost") {
      if (!lost) changed("lost", null);
      lost = true;
    } else if (name === "queue") {
      changed("queue", data);
      // places and estimates of what waits
      for (const seen of all.values()) {
        if (seen.job.state === "queued") changed("job", see(await api.job(seen.job.id)));
      }
    } else if (name === "missed") {
      await look();
    } else if (name === "begin") {
      const seen = await known(data.id);
      seen.job.state = "running";
      changed("begin", seen);
    } else if (name === "remarks") {
      const seen = await known(data.id);
      seen.job.remarks = data.remarks;
      changed("remarks", seen);
    } else if (name === "step") {
      const seen = await known(data.id);
      seen.job.state = "running";
      seen.step = data;
      changed("step", seen);
      if (data.preview) {
        // in their order, however long each takes
        seen.decoding = seen.decoding.then(async () => {
          const { width, height } = data.preview;
          const frame = { stage: data.stage, step: data.step, of: data.of, pictures: data.pictures, width, height, bitmap: await decode(data.preview) };
          seen.frames.push(frame);
          changed("frame", seen, frame);
        });
      }
    } else if (name === "picture") {
      const seen = await known(data.job);
      seen.job.pictures = [...seen.job.pictures.filter((picture) => picture.id !== data.id), data];
      await seen.decoding;
      changed("picture", seen, data);
    } else if (name === "end") {
      const seen = see(data);
      await seen.decoding;
      changed("end", seen);
    }
  };

  // one after the other: what happened first is heard first
  let line = Promise.resolve();
  api.listen((name, data) => {
    line = line.then(() => hear(name, data)).catch(() => { if (!lost) { lost = true; changed("lost", null); } });
  });

  return {
    see,
    /** The own job that is drawn now. */
    running: () => [...all.values()].find((seen) => seen.job.state === "running"),
    /** Own jobs in the middle of which the server ended, the latest first. */
    interrupted: () => [...all.values()].filter((seen) => seen.job.state === "interrupted").sort((a, b) => b.job.created_ms - a.job.created_ms),
    waiting: () => [...all.values()].filter((seen) => seen.job.state === "queued").sort((a, b) => a.job.created_ms - b.job.created_ms),
    /** What is seen of a job is let go of when another one is looked at. */
    forget: (seen) => { seen.frames.forEach((frame) => frame.bitmap.close()); seen.frames = []; },
  };
};
