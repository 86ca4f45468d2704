// Calls every operation it is told of on standard input through the official SDK, which is unchanged but
// for where it points, and writes one line of JSON for each: what was called, and what came of it.

"use strict";

const twilio = require("twilio");

const ATTEMPT_MS_MAX = 10000;
const PAUSE_MS = 100;
const VERBS = { Create: "create", List: "list", Fetch: "fetch", Update: "update", Delete: "remove" };

const lowered = (word) =>
  word === word.toUpperCase() ? word.toLowerCase() : word[0].toLowerCase() + word.slice(1);

const named = (argumentsOf) =>
  Object.fromEntries(Object.entries(argumentsOf).map(([name, value]) => [lowered(name), value]));

const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

function resource(client, steps, known) {
  let at = client.api.v2010;
  for (const { word, of } of steps) {
    at = at[lowered(word)];
    if (of) {
      if (known[of] === undefined) throw new Error(`nothing was made or listed at ${of}`);
      at = at(known[of]);
    }
  }
  return at;
}

function perform(client, { verb, steps, arguments: given }, known) {
  const at = resource(client, steps, known);
  const options = verb === "List" ? { ...named(given), limit: 3 } : named(given);
  return at[VERBS[verb]](...(verb === "Fetch" || verb === "Delete" ? [] : [options]));
}

// What was just made may be shown, or be ready, a moment later; a create is never repeated.
async function performed(client, call, known) {
  const until = Date.now() + ATTEMPT_MS_MAX;
  // Of what nothing here creates, the first one is listed once the host has made it.
  const isAwaited = call.verb === "List" && known[call.collection] === undefined;
  for (;;) {
    try {
      const answer = await perform(client, call, known);
      if (!isAwaited || answer.length > 0 || Date.now() > until) return answer;
      await pause();
    } catch (error) {
      const mayPass = call.verb !== "Create" && [400, 404, 409].includes(error.status);
      if (!mayPass || Date.now() > until) throw error;
      await pause();
    }
  }
}

async function main(told) {
  const client = twilio(told.account_sid, told.auth_token, { timeout: ATTEMPT_MS_MAX });
  client.api.baseUrl = told.base_url;
  const known = { Accounts: told.account_sid, ...told.known };
  for (const call of told.calls) {
    const line = { operation: call.operation };
    try {
      const answer = await performed(client, call, known);
      const first = Array.isArray(answer) ? answer[0] : answer;
      if (first && first.sid && call.collection !== "Accounts") known[call.collection] ??= first.sid;
      line.sid = (first && first.sid) ?? null;
    } catch (error) {
      line.error = `${error.status ?? ""} ${error.code ?? ""} ${error.message}`;
    }
    console.log(JSON.stringify(line));
  }
}

let text = "";
process.stdin.on("data", (chunk) => (text += chunk));
process.stdin.on("end", () => main(JSON.parse(text)));
