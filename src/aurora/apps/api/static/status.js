// Shows whether the server is ready. Without this module the page links to the probe instead.
const INTERVAL_MS = 15_000;
const TIMEOUT_MS = 5_000;
const MAX_CHECKS = 240; // an hour in view; looking at the page again starts a new hour

const box = document.querySelector("[data-probe]");
const state = box.querySelector(".state");
const took = box.querySelector(".took");
let checks = 0;
let timer = 0;

function show(name, milliseconds) {
  box.dataset.state = name;
  // Writing the same text again would make a screen reader say it again.
  if (state.textContent !== box.dataset[name]) state.textContent = box.dataset[name];
  took.textContent = milliseconds ? `${Math.max(1, Math.round(milliseconds))} ms` : "";
}

async function check() {
  clearTimeout(timer);
  if (document.hidden || checks >= MAX_CHECKS) return;
  checks += 1;
  const began = performance.now();
  try {
    const answer = await fetch(box.dataset.probe, {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (answer.ok) show("ready", performance.now() - began);
    else show("starting");
  } catch {
    show("silent");
  }
  timer = setTimeout(check, INTERVAL_MS);
}

document.addEventListener("visibilitychange", () => {
  checks = 0;
  check();
});
show("checking");
check();
