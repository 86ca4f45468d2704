// Has the official SDK check every signature that it is given on standard input, and writes its verdicts
// as one line of JSON: for each request as it was sent, as it is seen, and with what was changed in it.

"use strict";

const { parse } = require("querystring");
const { validateRequest, validateRequestWithBody } = require("twilio");

const isBelieved = (token, url, { signature, form, body }) =>
  body === null
    ? validateRequest(token, signature, url, { ...parse(form) })
    : validateRequestWithBody(token, signature, url, body);

const verdict = (token, vector) => ({
  sent: isBelieved(token, vector.sent, vector),
  seen: isBelieved(token, vector.seen, vector),
  otherUrl: isBelieved(token, vector.seen.replace(/\?|$/, "x$&"), vector),
  otherForm: isBelieved(token, vector.seen, { ...vector, form: vector.form + "&Added=1" }),
  otherBody: vector.body !== null && isBelieved(token, vector.seen, { ...vector, body: vector.body + " " }),
  otherToken: isBelieved(token.replace("0", "1"), vector.seen, vector),
});

let text = "";
process.stdin.on("data", (piece) => (text += piece));
process.stdin.on("end", () => {
  const { token, vectors } = JSON.parse(text);
  process.stdout.write(JSON.stringify(vectors.map((vector) => verdict(token, vector))) + "\n");
});
