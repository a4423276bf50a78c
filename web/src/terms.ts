// Terms computed at sizes, such as the number of operations of a node.

import type { Term } from "./contents";

const mod = (a: number, b: number) => a - b * Math.floor(a / b);

/** The operations of terms beside sums and products; the others have no value here. */
const OPERATIONS: Record<string, (...operands: number[]) => number> = {
  floordiv: (a, b) => Math.floor(a / b),
  ffloordiv: (a, b) => Math.floor(a / b),
  mod,
  fmod: mod,
  pow: Math.pow,
  fpow: Math.pow,
  abs: Math.abs,
  fabs: Math.abs,
  min: Math.min,
  fmin: Math.min,
  max: Math.max,
  fmax: Math.max,
  where: (condition, yes, no) => (condition ? yes : no),
  to_real: (a) => a,
  fadd: (a, b) => a + b,
  fmul: (a, b) => a * b,
  fneg: (a) => -a,
  fdiv: (a, b) => a / b,
  truediv: (a, b) => a / b,
  floor: Math.floor,
  ceil: Math.ceil,
  trunc: Math.trunc,
  eq: (a) => Number(a === 0),
  ge: (a) => Number(a >= 0),
  not: (a) => Number(!a),
  and: (...all) => Number(all.every(Boolean)),
  or: (...all) => Number(all.some(Boolean)),
};

/** The values of all terms, given those of symbols; NaN where a term has none. */
export function evaluate(terms: Term[], sizes: ReadonlyMap<string, number>): number[] {
  const values: number[] = [];
  for (const [operation, ...rest] of terms) {
    const operands = () => rest.map((place) => values[place as number]);
    let value: number;
    if (operation === "const") value = Number(rest[0]);
    else if (operation === "symbol") value = sizes.get(rest[0] as string) ?? NaN;
    else if (operation === "sum") {
      value = rest[0] as number;
      for (const [factor, place] of rest.slice(1) as [number, number][])
        value += factor * values[place];
    } else if (operation === "product") value = operands().reduce((a, b) => a * b, 1);
    else value = OPERATIONS[operation as string]?.(...operands()) ?? NaN;
    values.push(value);
  }
  return values;
}

/** The names of the symbols in terms. */
export function symbolsOf(terms: Term[]): string[] {
  return terms.filter(([operation]) => operation === "symbol").map((term) => term[1] as string);
}
