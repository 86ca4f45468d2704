// Counts the segments of texts with Twilio's own calculator: a line of JSON in, a line of JSON out.
const { SegmentedMessage } = require("sms-segments-calculator");

const lines = require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
for (const line of lines) {
  const { text, smart } = JSON.parse(line);
  const counted = new SegmentedMessage(text, "auto", smart);
  console.log(
    JSON.stringify({ encoding: counted.getEncodingName(), segments: counted.segmentsCount }),
  );
}
