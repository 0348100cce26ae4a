/** What lies where in a database file: enough of SQLite's documented format to say what a damage may cost. */
import { readFileSync } from 'node:fs';

const PAGE = 4_096;

/** The first byte of a page of a tree, by what the page is. */
const INNER_OF_INDEX = 2;
const INNER_OF_TABLE = 5;
const LEAF_OF_INDEX = 10;
const LEAF_OF_TABLE = 13;

/** Where the content of the first page begins. */
const FIRST_PAGE_SKIPS = 100;

/** The pages of the whole file at `file` that have a byte in `from` to `to`, the end left out. */
export function pagesBetween(file, from, to) {
  const bytes = readFileSync(file);
  const pages = [];
  for (let at = from - (from % PAGE); at < Math.min(to, bytes.length); at += PAGE) {
    const start = at === 0 ? FIRST_PAGE_SKIPS : at;
    pages.push({ number: at / PAGE + 1, kind: bytes[start], cells: bytes.readUInt16BE(start + 3) });
  }
  return pages;
}

/** All bytes of these pages of the file, as text. */
export function contentOf(file, pages) {
  const bytes = readFileSync(file);
  return pages.map(({ number }) => bytes.toString('latin1', (number - 1) * PAGE, number * PAGE)).join('');
}

/** Whether all that lies below, or is named by, one of these pages may be out of reach: the file's head, or a tree's inside. */
export const isStructure = ({ number, kind }) => number === 1 || kind === INNER_OF_INDEX || kind === INNER_OF_TABLE;

/** Whether it is a page of an index: what it does not name any more may be whole, and is not found. */
export const isOfIndex = ({ kind }) => kind === INNER_OF_INDEX || kind === LEAF_OF_INDEX;

/** How many rows lie in the page at most. A page that belongs to no tree has a part of one row, or nothing. */
export function rowsOf(page) {
  const { kind, cells } = page;
  if (isStructure(page)) return 0;
  return kind === LEAF_OF_TABLE || kind === LEAF_OF_INDEX ? cells : 1;
}
