// A rush: more demand than stock, users with several orders, and three requests in ten the retry of a recent one.
import { expect, isCreated, isInProgress, isReplayed, isSoldOut, named, number, place, userOf } from "./order.js";
export { handleSummary, options } from "./order.js";

export const setup = named;

const CROWD = 20011;

export default function (test) {
  let n = number();
  if (Math.random() < 0.3) n = Math.max(0, n - 1 - Math.floor(Math.random() * 100));
  expect(place(userOf(n, CROWD), `${test.run}-${n}`), {
    "created, replayed, in progress or sold out": (reply) =>
      isCreated(reply) || isReplayed(reply) || isInProgress(reply) || isSoldOut(reply),
  });
}
