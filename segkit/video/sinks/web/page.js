"use strict";

const POLL_MS = 500, RETRY_MS = 1000;
const NAMES = { connecting: "Connecting", live: "Live", paused: "Paused", waiting: "Waiting", offline: "Offline" };
const $ = (id) => document.getElementById(id);
const canvas = $("picture");
let settings = {}, effects = [], canRecord = false;
let state = "connecting", shown = false, moves = 0;

// --- The picture -----------------------------------------------------------------------------

// The stream is read here and not by an <img>, which would neither tell that it broke off nor keep
// a hidden tab from loading it. A frame is read only when the one before is on the screen.
let stream = null;

async function watch() {
  if (stream || document.hidden) return;
  const abort = stream = new AbortController();
  try {
    const response = await fetch("/stream", { signal: abort.signal });
    if (response.ok) await show(response.body.getReader());
    else say(await response.text());
  } catch (error) {
    if (error.name !== "AbortError") console.info("the stream broke off:", error.message);
  } finally {
    if (stream === abort) stream = null;
    abort.abort();
  }
  setTimeout(watch, RETRY_MS);
}

async function show(reader) {
  const decoder = new TextDecoder();
  let parts = [], size = 0;
  const more = async () => {
    const { done, value } = await reader.read();
    if (done) throw new Error("it ended");
    parts.push(value);
    size += value.length;
  };
  const joined = () => {
    if (parts.length > 1) {
      const all = new Uint8Array(size);
      let offset = 0;
      for (const part of parts) { all.set(part, offset); offset += part.length; }
      parts = [all];
    }
    return parts[0] ?? new Uint8Array(0);
  };
  for (;;) {
    let head = "", end = -1;
    while ((end = head.indexOf("\r\n\r\n")) < 0) {
      if (head.length > 4096) throw new Error("it is no stream of pictures");
      await more();
      head = decoder.decode(joined().subarray(0, 8192));
    }
    const length = Number(/Content-Length: (\d+)/.exec(head)[1]);
    while (size < end + 4 + length) await more();
    const data = joined();
    const rest = data.subarray(end + 4 + length);
    await draw(data.subarray(end + 4, end + 4 + length));
    parts = [rest];
    size = rest.length;
  }
}

async function draw(jpeg) {
  const image = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }));
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  canvas.getContext("2d", { alpha: false }).drawImage(image, 0, 0);
  image.close();
  shown = true;
  notice();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return void watch();
  stream?.abort();
  stream = null;
});

// --- Figures ---------------------------------------------------------------------------------

async function poll() {
  if (!document.hidden) {
    try {
      const seen = sending ? -1 : moves;  // what was asked before the last move shows it not yet
      const response = await fetch("/figures", { signal: AbortSignal.timeout(5000) });
      if (!response.ok) throw new Error(response.statusText);
      tell(await response.json(), seen);
    } catch {
      become("offline");
    }
  }
  setTimeout(poll, POLL_MS);
}

function tell(figures, seen) {
  $("title").textContent = figures.title;
  document.title = `${figures.title} · segkit`;
  $("fps").textContent = number(figures.fps);
  $("age").textContent = figures.age_ms === null ? "–" : number(figures.age_ms);
  $("dropped-box").hidden = figures.dropped === null;
  const dropped = Object.entries(figures.dropped ?? {});
  $("dropped").textContent = dropped.reduce((sum, [, count]) => sum + count, 0).toLocaleString("en");
  $("dropped-box").title = dropped.map(([cause, count]) => `${cause} ${count}`).join(", ");
  if (figures.frame !== null) tellClasses(figures.classes);
  const stages = Object.entries(figures.stage_ms);
  $("stages-card").hidden = stages.length === 0;
  $("stages").replaceChildren(...stages.flatMap(([name, ms]) => [element("dt", name), element("dd", number(ms))]));
  if (String(effects) !== String(figures.effects)) {
    effects = figures.effects;
    $("effect").replaceChildren(...effects.map((name) => Object.assign(element("option", words(name)), { value: name })));
    $("effect-field").hidden = effects.length < 2;
  }
  canRecord = figures.can_record;
  $("record").hidden = $("record-key").hidden = !canRecord;
  if (seen === moves) reflect(figures.controls);
  become(figures.state);
}

function tellClasses(classes) {
  const list = $("classes");
  if (list.children.length !== classes.length) {
    list.replaceChildren(...classes.map(({ name, color }) => {
      const item = element("li"), swatch = element("i"), bar = element("div");
      swatch.style.background = color;
      bar.className = "bar";
      bar.append(element("div"));
      item.append(swatch, Object.assign(element("span", name), { title: name }), bar, element("b"));
      return item;
    }));
  }
  classes.forEach(({ share }, index) => {
    const item = list.children[index];
    item.classList.toggle("absent", share === 0);
    item.querySelector("b").textContent = share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
    item.querySelector(".bar > div").style.transform = `scaleX(${share})`;
  });
}

function become(next) {
  state = next;
  $("state").dataset.state = state;
  if ($("state").textContent !== NAMES[state]) $("state").textContent = NAMES[state];
  notice();
}

let said = "";

function say(text) {
  said = text;
  notice();
}

function notice() {
  const text = state === "offline" ? "No connection. Trying again"
    : !shown ? said || "Waiting for the first frame"
    : state === "waiting" ? "No new frame"
    : "";
  $("notice").textContent = text;
  $("notice").hidden = text === "";
  $("frame").classList.toggle("stale", state === "offline" || (shown && state === "waiting"));
}

// --- Controls --------------------------------------------------------------------------------

function reflect(now) {
  settings = now;
  const percent = Math.round(100 * now.opacity);
  $("opacity").value = percent;
  $("opacity").style.setProperty("--filled", `${percent}%`);
  $("opacity-value").textContent = `${percent} %`;
  $("effect").value = now.effect;
  $("legend").checked = now.legend;
  press($("paused"), now.paused, now.paused ? "Resume" : "Pause");
  press($("record"), now.recording, now.recording ? "Stop" : "Record");
  $("recording").hidden = !now.recording;
}

function press(button, pressed, text) {
  button.setAttribute("aria-pressed", pressed);
  button.querySelector("span").textContent = text;
}

// Shown at once, sent one after the other with only the newest waiting: a slider moves faster than
// a server answers.
let waiting = null, sending = false;

async function change(changes) {
  moves += 1;
  reflect({ ...settings, ...changes });
  waiting = { ...waiting, ...changes };
  if (sending) return;
  sending = true;
  try {
    while (waiting) {
      const body = JSON.stringify(waiting);
      waiting = null;
      const response = await fetch("/controls", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (!response.ok) console.warn("refused:", await response.text());
    }
  } catch {
    become("offline");
  } finally {
    sending = false;
  }
}

const moveOpacity = (step) => change({ opacity: Math.min(100, Math.max(0, Math.round(100 * settings.opacity) + step)) / 100 });
const nextOpacity = () => change({ opacity: settings.opacity < 1 ? (Math.floor(4 * settings.opacity) + 1) / 4 : 0 });
const toggle = (name) => change({ [name]: !settings[name] });
const nextEffect = () => change({ effect: effects[(effects.indexOf(settings.effect) + 1) % effects.length] });

function fullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("frame").requestFullscreen?.();
}

$("opacity").addEventListener("input", () => change({ opacity: $("opacity").value / 100 }));
$("effect").addEventListener("change", () => change({ effect: $("effect").value }));
$("legend").addEventListener("change", () => change({ legend: $("legend").checked }));
$("paused").addEventListener("click", () => toggle("paused"));
$("record").addEventListener("click", () => toggle("recording"));
$("fullscreen").addEventListener("click", fullscreen);
$("fullscreen").hidden = !document.fullscreenEnabled;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  if (event.key === " " && event.target.matches("button, a, input")) return;
  const action = {
    " ": () => toggle("paused"),
    s: () => $("snapshot").click(),
    o: nextOpacity,
    "-": () => moveOpacity(-10),
    "+": () => moveOpacity(10),
    "=": () => moveOpacity(10),
    e: () => effects.length > 1 && nextEffect(),
    l: () => toggle("legend"),
    r: () => canRecord && toggle("recording"),
    f: fullscreen,
  }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// --- Small things ----------------------------------------------------------------------------

function element(name, text = "") {
  return Object.assign(document.createElement(name), { textContent: text });
}

function number(value) {
  return value >= 99.5 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

function words(name) {
  const text = name.replaceAll(/[_-]/g, " ");
  return text[0].toUpperCase() + text.slice(1);
}

watch();
poll();
