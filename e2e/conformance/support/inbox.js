import { within } from "./deadline.js";

/** Why a wait for a packet failed: the connection is over. */
export class Ended extends Error {}

/** What has arrived and has not been looked at yet, in order. */
export class Inbox {
  #items = [];
  #waiting = [];
  #end = null;

  push(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#items.push(item);
  }

  /** Nothing more will come: whoever waits, now or later, is told why. */
  end(reason) {
    this.#end = new Ended(`nothing more to receive: ${reason}`);
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#end);
  }

  /** The oldest item, waited for if there is none. */
  next(what = "a packet") {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift());
    if (this.#end) return Promise.reject(this.#end);
    const arrival = new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
    return within(arrival, what);
  }
}
