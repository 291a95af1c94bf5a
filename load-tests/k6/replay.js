// Orders that exist, asked for again: the same body byte for byte, marked as a replay. User N has key RUN-N.
import { expect, isReplayed, keys, named, number, place } from "./order.js";
export { handleSummary, options } from "./order.js";

export function setup() {
  const { run } = named();
  const bodies = [];
  for (let n = 1; n <= keys; n += 1) bodies.push(place(n, `${run}-${n}`).body);
  return { run, bodies };
}

export default function (test) {
  const n = 1 + (number() % keys);
  expect(place(n, `${test.run}-${n}`), {
    "201 and a replay": isReplayed,
    "the same body": (reply) => reply.body === test.bodies[n - 1],
  });
}
