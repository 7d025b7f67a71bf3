// Keeps the page true to the server: each event carries the texts that changed, by key; they go in as text and never as markup.
"use strict";

const SILENCE_MS = 5000; // the server speaks every second: after this the page says that it shows the past

const layout = document.documentElement.dataset.layout;
const byText = index("text");
const byState = index("stateOf");
const bySource = index("sourceOf");
const byLabel = index("labelOf");
let heard = performance.now();

function index(name) {
  const found = new Map();
  const attribute = "data-" + name.replace(/[A-Z]/g, (letter) => "-" + letter.toLowerCase());
  for (const element of document.querySelectorAll("[" + attribute + "]")) {
    const key = element.dataset[name];
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(element);
  }
  return found;
}

function patch(fields) {
  for (const [key, text] of Object.entries(fields)) {
    for (const element of byText.get(key) || []) element.textContent = text;
    for (const element of byState.get(key) || []) element.dataset.state = text;
    for (const element of byLabel.get(key) || []) element.alt = text;
    // Only our own pictures: a relative address below /api/trucks/.
    if (text.startsWith("/api/trucks/")) for (const element of bySource.get(key) || []) element.src = text;
  }
}

function show(alive) {
  document.body.dataset.live = alive ? "yes" : "no";
  document.getElementById("lost").hidden = alive;
}

const events = new EventSource("/events");
events.addEventListener("fields", (event) => {
  const message = JSON.parse(event.data);
  if (message.layout !== layout) {
    location.reload(); // another center answers now: other trucks or another version
    return;
  }
  heard = performance.now();
  patch(message.fields);
  show(true);
});
setInterval(() => { if (performance.now() - heard > SILENCE_MS) show(false); }, 1000);
