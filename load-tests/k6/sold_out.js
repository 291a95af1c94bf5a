// Nothing is left: every request a new user with a new key, and a no. The sale must be sold out before.
import { expect, isSoldOut, named, number, place, userOf } from "./order.js";
export { handleSummary, options } from "./order.js";

export const setup = named;

export default function (test) {
  const n = number();
  expect(place(userOf(n), `${test.run}-${n}`), { "409 sold_out": isSoldOut });
}
