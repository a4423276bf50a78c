// Builds page.js, page.css and licenses.txt of src/symfx/html_report from the sources in this folder.
//
//   node build.mjs [FOLDER]    write them to FOLDER instead
import { readFileSync, writeFileSync, existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "..", "src", "symfx", "html_report");

const { outputFiles, metafile } = await build({
  absWorkingDir: here,
  entryPoints: { page: "src/main.ts" },
  outdir: target,
  bundle: true,
  minify: true,
  legalComments: "none", // the licences stand in full in licenses.txt
  charset: "ascii",
  format: "iife",
  target: ["chrome111", "firefox113", "safari16.4"],
  metafile: true,
  write: false,
});
for (const file of outputFiles) writeFileSync(file.path, file.text);

// The licence of each package that has code in the bundle, and of those that they contain.
const packages = new Set(
  Object.keys(metafile.inputs)
    .map((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1])
    .filter(Boolean),
);
const described = (name) =>
  JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8"));
for (const name of packages)
  for (const inner of Object.keys(described(name).dependencies ?? {})) packages.add(inner);
const texts = [...packages].sort().map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = described(name);
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].find((f) => existsSync(join(folder, f)));
  if (!file) throw new Error(`${name} has no licence text`);
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
});
writeFileSync(
  join(target, "licenses.txt"),
  `The file page.js of symfx's HTML report contains code of these packages.\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}`,
);
console.log(`built into ${relative(process.cwd(), target) || "."}: ${[...packages].join(", ")}`);
