// One user, one key, everybody at once: one order. Who comes while it is being recorded waits for it.
import { expect, isCreated, isReplayed, named, place } from "./order.js";
export { handleSummary, options } from "./order.js";

export const setup = named;

export default function (test) {
  expect(place(42, test.run, { Prefer: "wait=5" }), {
    "201, first or replayed": (reply) => isCreated(reply) || isReplayed(reply),
  });
}
