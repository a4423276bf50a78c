// The contents of a report: what symfx/html_report/contents.py writes.

/** The line behind a condition; the operator is empty where none asked. */
export interface Cause {
  place: string;
  text: string;
  operator: string;
}

/** A step of a proof: a statement, and the statements from which it follows. */
export interface Reason {
  statement: string;
  kind: string;
  note: string;
  operator: string;
  place: string;
  text: string;
  because: Reason[];
}

export interface Proof {
  sentence: string;
  reasons: Reason[];
  /** Pairs of a label and a text. */
  details: [string, string][];
  fix: string;
}

export interface SymbolInfo {
  name: string;
  sources: string;
  range: string;
  example: number | string | null;
  unbacked: boolean;
  proof: Proof | null;
}

export interface Pin {
  symbol: string;
  value: number | string;
  sources: string;
  cause: Cause;
  proof: Proof | null;
  /** The places of the nodes of the line that pinned it. */
  nodes: number[];
}

export interface Condition {
  condition: string;
  cause: Cause;
  message?: string;
  proof: Proof | null;
  /** The places of the nodes that caused it. */
  nodes: number[];
}

export interface Run {
  sizes: Record<string, number>;
  example: boolean;
  passed: boolean;
  compared: boolean;
  difference: number | string | null;
  relative: number | string | null;
  failure: string | null;
}

export interface Verification {
  passed: boolean;
  verdict: string;
  notes: string[];
  runs: Run[];
}

export type NodeKind = "input" | "parameter" | "output" | "size" | "operator";

export interface GraphNode {
  name: string;
  label: string;
  op: string;
  title: string;
  target: string;
  expression: string;
  value: string;
  kind: NodeKind;
  /** The place of its module. */
  module: number;
  /** The places of the nodes that it reads. */
  inputs: number[];
  /** The places of the lines that led to it, the innermost last. */
  frames: number[];
  meta: [string, string][];
  /** The places of terms: operations, bytes written, bytes of the result. */
  flops: number;
  memory: number;
  held: number;
  /** The first and the last node during which its result lives. */
  life: [number, number];
}

export interface Module {
  path: string;
  kind: string;
  parent: number | null;
  /** Which call of the module this is, from 1. */
  call: number;
  parameters: number;
  flops: string;
  memory: string;
}

/** Place, text, and whether it is a line of the user. */
export type Frame = [string, string, boolean];

/** A term as symfx packs it: an operation, and the places of its operands. */
export type Term = (string | number | [number, number])[];

export interface Contents {
  model: string;
  headline: string;
  symfx: string;
  torch: string;
  symbols: SymbolInfo[];
  pins: Pin[];
  guards: Condition[];
  asserts: Condition[];
  /** How many conditions have a proof at most, and how many have none because of that. */
  proofs: { most: number; left_out: number };
  notes: string[];
  verification: Verification | null;
  unverified: string | null;
  nodes: GraphNode[];
  modules: Module[];
  frames: Frame[];
  cost: { parameters: number; flops: string; memory: string; notes: string[] };
  terms: Term[];
}

export function readContents(): Contents {
  return JSON.parse(document.getElementById("contents")!.textContent!) as Contents;
}
