// Leads this Node program to the forwarder of `trunkline run`, which put this file into NODE_OPTIONS.
//
//   twilio's RequestClient   asks the forwarder, whatever product, edge or region
//   fetch                    the same for URLs that a program has written out: it heeds no proxy
//   dns.lookup               refuses Twilio's names: whatever comes that far would go to Twilio itself
//
// Nothing is loaded that the program does not load itself, but for Node's own `module` and `dns`.
"use strict";

const FORWARDER = process.env._TRUNKLINE_FORWARDER;
const CLIENTS = /[\\/](twilio[\\/]lib[\\/]base[\\/]RequestClient|@twilio[\\/]cli-core[\\/]src[\\/]services[\\/]cli-http-client)\.js$/;

function isTheirs(host) {
  const name = String(host).toLowerCase().replace(/\.$/, "");
  return name === "twilio.com" || name.endsWith(".twilio.com");
}

function led(url) {
  let parts;
  try {
    parts = new URL(url);
  } catch {
    return url;
  }
  if (!isTheirs(parts.hostname)) return url;
  return `${FORWARDER}/.to/${parts.hostname}${parts.pathname}${parts.search}`;
}

const said = new Set();
function say(what) {
  if (said.has(what)) return;
  said.add(what);
  process.stderr.write(`trunkline run: ${what}\n`);
}

function changeClient(exported) {
  const client = [exported, exported && exported.default, exported && exported.CliRequestClient].find(
    (each) => typeof each === "function" && each.prototype && each.prototype.request,
  );
  if (client === undefined) {
    say("this version of twilio makes its requests in another way, so it is led here only as far as it heeds HTTP_PROXY");
    return;
  }
  const request = client.prototype.request;
  client.prototype.request = function (opts) {
    return request.call(this, opts && opts.uri ? { ...opts, uri: led(opts.uri) } : opts);
  };
}

function changeModules() {
  const Module = require("module");
  const load = Module._extensions[".js"];
  Module._extensions[".js"] = function (module, filename) {
    load.call(this, module, filename);
    if (CLIENTS.test(filename)) changeClient(module.exports);
  };
}

function changeFetch() {
  if (typeof globalThis.fetch !== "function") return;
  const fetch = globalThis.fetch;
  globalThis.fetch = function (input, init) {
    if (typeof input === "string" || input instanceof URL) return fetch(led(String(input)), init);
    if (input && input.url && led(input.url) !== input.url) return fetch(new Request(led(input.url), input), init);
    return fetch(input, init);
  };
}

function changeLookup() {
  const dns = require("dns");
  const lookup = dns.lookup;
  dns.lookup = function (host, ...rest) {
    if (!isTheirs(host)) return lookup.call(this, host, ...rest);
    const why = `this would have gone to ${host} itself and was refused. The client heeds neither HTTP_PROXY nor the hooks: give it the base URL of a host`;
    say(why);
    const error = Object.assign(new Error(`trunkline run: ${why}`), { code: "ENOTFOUND", hostname: host });
    const done = rest[rest.length - 1];
    if (typeof done !== "function") throw error;
    process.nextTick(done, error);
    return {};
  };
}

if (FORWARDER) {
  changeModules();
  changeFetch();
  changeLookup();
}
