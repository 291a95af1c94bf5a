// What every k6 script here shares: one order, the arrival model, the thresholds, and the summary that a script can read.
//
//   k6 run --no-usage-report -e URLS=http://127.0.0.1:8080 load-tests/k6/accepted.js
//
// URLS     engines, separated by commas                          [http://127.0.0.1:8080]
// SALE     the sale to order from, sku sku-1                     [demo]
// RUN      makes the keys of this run different from others      [the time]
// RATE     requests that fall due in a second                    [500]
// SECONDS  for how long                                          [10]
// VUS      virtual users at the start, ten times that at most    [64]
// KEYS     orders that replay.js makes first and then repeats    [200]
// FLOOR    not empty: the server is an echo, so only its 201 is looked at
// SUMMARY  a file for the figures as JSON

import exec from "k6/execution";
import http from "k6/http";
import { check } from "k6";
import { Counter } from "k6/metrics";

const env = (name, otherwise) => __ENV[name] || otherwise;
const urls = env("URLS", "http://127.0.0.1:8080").split(",");
const sale = env("SALE", "demo");
const rate = Number(env("RATE", "500"));
const seconds = Number(env("SECONDS", "10"));
const vus = Number(env("VUS", "64"));
export const keys = Number(env("KEYS", "200"));
export const run = __ENV.RUN;
const floor = Boolean(__ENV.FLOOR);

// Statuses that are answers; everything else counts as failed.
http.setResponseCallback(http.expectedStatuses(201, 409));

const serverErrors = new Counter("server_errors");
const unanswered = new Counter("unanswered");
const noSuccess = new Counter("no_success");

// Open model: an order falls due every 1/RATE seconds whether or not earlier ones were answered, as in a crowd.
export const options = {
  discardResponseBodies: false,
  summaryTrendStats: ["med", "p(99)", "p(99.9)", "max"],
  scenarios: {
    rush: {
      executor: "constant-arrival-rate",
      rate,
      timeUnit: "1s",
      duration: `${seconds}s`,
      preAllocatedVUs: vus,
      maxVUs: vus * 10,
      gracefulStop: "30s",
    },
  },
  thresholds: {
    checks: ["rate==1"],
    server_errors: ["count==0"],
    unanswered: ["count==0"],
    // Always met: a threshold is what makes k6 count the rush without what setup() sends.
    "http_reqs{scenario:rush}": ["count>=0"],
    "http_req_duration{scenario:rush}": ["max>=0"],
  },
};

// The number of this order, from 0, unique in the whole run.
export const number = () => exec.scenario.iterationInTest;

// Users of their own for every number, the same at every asking, spread over the shards.
export const userOf = (n, crowd = 2147483647) => 1 + ((n * 2654435761) % crowd);

// A run without RUN gets its name in setup(), so that all virtual users have the same one.
export const named = () => ({ run: run || String(Date.now()) });

export function place(user, key, headers = {}) {
  return http.post(
    `${urls[exec.vu.idInTest % urls.length]}/v1/orders`,
    // The user stands in the body: proxies take X-User-Id away.
    `{"sale_id":"${sale}","sku_id":"sku-1","quantity":1,"user_id":${user}}`,
    {
      headers: Object.assign({ "Content-Type": "application/json", "Idempotency-Key": key }, headers),
      tags: { name: "place" },
    },
  );
}

// Counts an answer and holds it against what the path allows.
export function expect(answer, what) {
  if (answer.status === 0) unanswered.add(1);
  if (answer.status >= 500) serverErrors.add(1);
  if (answer.status < 200 || answer.status >= 300) noSuccess.add(1);
  check(answer, floor ? { "the echo answers": (reply) => reply.status === 201 } : what);
}

export const isCreated = (reply) => reply.status === 201 && reply.headers["Idempotency-Replayed"] === undefined;
export const isReplayed = (reply) => reply.status === 201 && reply.headers["Idempotency-Replayed"] === "true";
export const isSoldOut = (reply) => reply.status === 409 && reply.body.includes('"sold_out"');
export const isInProgress = (reply) => reply.status === 409 && reply.body.includes('"idempotency_in_progress"');

export function handleSummary(data) {
  const value = (metric, stat) => (data.metrics[metric] ? data.metrics[metric].values[stat] || 0 : 0);
  const crossed = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    for (const [rule, result] of Object.entries(metric.thresholds || {})) {
      if (!result.ok) crossed.push(`${name} ${rule}`);
    }
  }
  const late = "http_req_duration{scenario:rush}";
  const unsent = value("unanswered", "count");
  const figures = {
    requests: value("http_reqs{scenario:rush}", "count") - unsent,
    microseconds: seconds * 1000000,
    p50: value(late, "med") * 1000,
    p99: value(late, "p(99)") * 1000,
    p999: value(late, "p(99.9)") * 1000,
    refused: value("no_success", "count") - unsent,
    broken: unsent,
    prepared: value("http_reqs", "count") - value("http_reqs{scenario:rush}", "count"),
    dropped: value("dropped_iterations", "count"),
    crossed,
  };
  const screen = `${JSON.stringify(figures, null, 1)}\n`;
  return __ENV.SUMMARY ? { [__ENV.SUMMARY]: screen } : { stdout: screen };
}
