// Every request a new user with a new key: 201, and a row in the ledger before it is sent.
import { expect, isCreated, named, number, place, userOf } from "./order.js";
export { handleSummary, options } from "./order.js";

export const setup = named;

export default function (test) {
  const n = number();
  expect(place(userOf(n), `${test.run}-${n}`), { "201 and not a replay": isCreated });
}
