"""The page for people: handsets, what they received, and a form to send from one. No assets."""

from typing import Final

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Trunkline simulator</title>
<style>
  :root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif; }
  body { margin: 0 auto; max-width: 56rem; padding: 1rem; }
  main { display: grid; gap: 1.5rem; grid-template-columns: minmax(11rem, 1fr) 3fr; }
  button, input, textarea { font: inherit; padding: .4rem .6rem; }
  nav button { display: block; width: 100%; text-align: left; margin-bottom: .3rem; }
  nav button[aria-current=true] { font-weight: 600; }
  ol { list-style: none; padding: 0; }
  li { border: 1px solid #8886; border-radius: .6rem; padding: .5rem .8rem; margin-bottom: .5rem; }
  li p { margin: .2rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
  small { opacity: .75; }
  img, video { display: block; max-width: 100%; max-height: 20rem; }
  form { display: grid; gap: .5rem; }
  @media (max-width: 40rem) { main { grid-template-columns: 1fr; } }
</style>
</head>
<body>
<h1>Simulated handsets</h1>
<main>
  <nav aria-label="Handsets" id="handsets"><p>No handset has received anything yet.</p></nav>
  <section>
    <h2 id="title">Send from a handset</h2>
    <form id="form">
      <label>From <input id="from" required pattern="[+][1-9][0-9]{6,14}"
        placeholder="+15551234567"></label>
      <label>To <input id="to" required placeholder="+15557654321"></label>
      <label>Text <textarea id="text" rows="2" maxlength="1600"></textarea></label>
      <label>Media <input id="media" type="file" multiple></label>
      <button>Send</button> <small id="said" role="status"></small>
    </form>
    <ol id="messages" aria-live="polite"></ol>
  </section>
</main>
<script>
const at = id => document.getElementById(id);
const inbox = number => "/v1/handsets/" + encodeURIComponent(number) + "/messages";
const SHOWN_MAX = 200;
let current = "", last = 0;

function add(parent, tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  parent.append(node);
  return node;
}

function open(number) {
  current = number; last = 0;
  at("title").textContent = number;
  at("from").value = number;
  at("messages").replaceChildren();
  list();
  follow(number);
}

async function list() {
  const found = await (await fetch("/v1/handsets")).json();
  if (!found.length) return;
  at("handsets").replaceChildren();
  for (const handset of found) {
    const button = add(at("handsets"), "button", handset.number + " (" + handset.messages + ")");
    button.setAttribute("aria-current", handset.number === current);
    button.onclick = () => open(handset.number);
  }
}

const TAGS = { image: "img", audio: "audio", video: "video" };

function showMedia(line, media) {
  const tag = TAGS[media.content_type.split("/")[0]];
  const node = add(line, tag || "a", tag ? "" : media.content_type);
  if (tag) node.src = media.url; else node.href = media.url;
  if (tag === "img") node.alt = media.content_type; else if (tag) node.controls = true;
}

async function upload(file) {
  const headers = { "Content-Type": file.type };
  const answer = await fetch("/v1/media", { method: "POST", headers, body: file });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.error);
  return said.url;
}

function show(message) {
  const line = document.createElement("li");
  const when = new Date(message.at * 1000).toLocaleTimeString();
  const flag = message.possible_duplicate ? ", may be a repeat" : "";
  add(line, "small", "from " + message.from + " at " + when + flag);
  add(line, "p", message.body);
  for (const media of message.media) showMedia(line, media);
  if (!message.media.length)
    for (const url of message.media_urls) add(line, "small", url);
  at("messages").prepend(line);
  while (at("messages").children.length > SHOWN_MAX) at("messages").lastChild.remove();
}

async function follow(number) {
  while (number === current) {
    try {
      const answer = await fetch(inbox(number) + "?wait_ms=20000&after=" + last);
      const messages = await answer.json();
      if (number !== current) return;
      for (const message of messages) { last = message.n; show(message); }
    } catch { await new Promise(done => setTimeout(done, 2000)); }
  }
}

at("form").onsubmit = async event => {
  event.preventDefault();
  try {
    const urls = [];
    for (const file of at("media").files) urls.push(await upload(file));
    const sending = { to: at("to").value, body: at("text").value, media_urls: urls };
    const body = JSON.stringify(sending);
    const answer = await fetch(inbox(at("from").value), { method: "POST", body });
    const said = await answer.json();
    at("said").textContent = answer.ok ? "Sent as " + said.message_id : said.error;
    if (answer.ok) { at("text").value = ""; at("media").value = ""; }
  } catch (failure) { at("said").textContent = failure.message; }
};

list();
setInterval(list, 3000);
</script>
</body>
</html>
"""
