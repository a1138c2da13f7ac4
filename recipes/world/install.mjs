// The pinned npm packages: exact versions in package.json, their digests in package-lock.json; npm compares both.

import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** Installs what package-lock.json names unless it lies there already. Throws an Error of one line that names the package and the remedy. */
export async function install(here) {
  const modules = path.join(here, 'node_modules');
  const wanted = JSON.parse(await readFile(path.join(here, 'package-lock.json'), 'utf8')).packages;
  if (await installed(modules, wanted)) return;
  console.log('installing the pinned packages (about 200 MB) ...');
  const npm = spawnSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    { cwd: here, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'], shell: process.platform === 'win32' });
  if (npm.status === 0) return;
  await rm(modules, { recursive: true, force: true });
  throw new Error(reason(npm, wanted));
}

/** npm leaves a copy of the lock file behind when an installation has finished. */
async function installed(modules, wanted) {
  const left = path.join(modules, '.package-lock.json');
  if (!existsSync(left)) return false;
  const have = JSON.parse(await readFile(left, 'utf8')).packages;
  return Object.entries(wanted).every(([place, { integrity, optional }]) =>
    place === '' || (place in have ? have[place].integrity === integrity && existsSync(path.join(modules, '..', place)) : optional));
}

function reason(npm, wanted) {
  if (npm.error) return `npm could not be started (${npm.error.code}): install Node 20 or newer with npm and run this again`;
  const text = npm.stderr ?? '';
  const named = ([place, { version }]) => `${place.slice(place.lastIndexOf('node_modules/') + 13)}@${version}`;
  const entries = Object.entries(wanted).filter(([place]) => place);
  const said = entries.find(([, { integrity }]) => integrity && text.includes(integrity)) ??
    entries.find(([, { resolved }]) => resolved && text.includes(resolved)) ??
    entries.filter(([place]) => text.includes(place.slice(13)) || text.includes(place.slice(13).replace('/', '%2f'))).sort((a, b) => b[0].length - a[0].length)[0];
  const thing = said ? named(said) : 'a package';
  if (text.includes('EINTEGRITY')) return `${thing}: the download's digest is not the one in package-lock.json; run "npm cache clean --force" and try again, and if it stays so do not use the package`;
  if (/E404|ETARGET/.test(text)) return `${thing} is not in the npm registry; check "npm config get registry"`;
  const code = /code (E\w+)/.exec(text)?.[1] ?? /\b(E[A-Z]{4,})\b/.exec(text)?.[1] ?? `exit ${npm.status}`;
  return `${thing} could not be fetched from the npm registry (${code}); check the network and "npm config get registry", then run this again`;
}
