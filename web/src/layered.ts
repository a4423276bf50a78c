// The places of boxes and edges of one module, found by dagre.

import dagre from "@dagrejs/dagre";

export type Point = [number, number];

/** A module to lay out: its boxes, and its edges as numbers of boxes with a label's width. */
export interface Plan {
  boxes: { width: number; height: number }[];
  edges: { from: number; to: number; label: number }[];
  /** The boxes that stand above all others, and below all others. */
  first: number | null;
  last: number | null;
}

export interface Places {
  width: number;
  height: number;
  /** The middles of the boxes. */
  boxes: Point[];
  edges: { points: Point[]; label: Point | null }[];
}

const LABEL_HEIGHT = 16;
const known = new Map<string, Places>();

/** The places for a plan; plans that are equal, such as those of repeated layers, share them. */
export function placesFor(plan: Plan): Places {
  const key = JSON.stringify(plan);
  let places = known.get(key);
  if (!places) known.set(key, (places = solve(plan)));
  return places;
}

function solve(plan: Plan): Places {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 26, edgesep: 14, marginx: 16, marginy: 14, ranker: plan.boxes.length > 200 ? "tight-tree" : "network-simplex" });
  const name = String;
  plan.boxes.forEach((box, i) => graph.setNode(name(i), { ...box }));
  for (const { from, to, label } of plan.edges)
    graph.setEdge(name(from), name(to), { width: label, height: label ? LABEL_HEIGHT : 0, labelpos: "c", weight: 2 });
  // Edges that are not drawn keep the first box above the others, and the last below them.
  const hidden = { width: 0, height: 0, weight: 0 };
  plan.boxes.forEach((_, i) => {
    if (i === plan.first || i === plan.last) return;
    if (plan.first !== null && !graph.inEdges(name(i))?.length) graph.setEdge(name(plan.first), name(i), hidden);
    if (plan.last !== null && !graph.outEdges(name(i))?.length) graph.setEdge(name(i), name(plan.last), hidden);
  });
  dagre.layout(graph);
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    boxes: plan.boxes.map((_, i): Point => [graph.node(name(i)).x, graph.node(name(i)).y]),
    edges: plan.edges.map(({ from, to }) => {
      const placed = graph.edge(name(from), name(to));
      return {
        points: placed.points.map((p: { x: number; y: number }): Point => [p.x, p.y]),
        label: placed.x === undefined ? null : ([placed.x, placed.y] as Point),
      };
    }),
  };
}
