#!/usr/bin/env node
/*
 * Becomes the native worker. The host can only start a file that Node runs; this one replaces the Node process by the worker
 * for this machine, so that the host's pid, signals and sockets are the worker's own and no Node stays in memory.
 *
 * Two rules hold until then. process.stdin, stdout and stderr are not touched, nor is console: Node would make the host's
 * sockets non-blocking, and they would stay so (hence writeSync). And what can be seen to fail is checked first: a
 * failing process.execve aborts Node and cannot be caught.
 */
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const NAME = 'paperclip-sandbox-worker';
/* e_machine of the ELF header, by process.arch */
const MACHINES = { x64: 62, arm64: 183 };
const PT_INTERP = 3;

function fail(problem) {
  try {
    fs.writeSync(2, `${NAME}: ${problem}\n`);
  } catch {
    /* Nobody listens. */
  }
  process.exit(1);
}

function packedArchitectures() {
  try {
    return fs.readdirSync(path.join(__dirname, 'bin')).sort().join(', ');
  } catch {
    return '';
  }
}

function findBinary() {
  const wanted = `${process.platform}-${process.arch}`;
  const binary = path.join(__dirname, 'bin', wanted, NAME);
  if (!fs.existsSync(binary)) {
    const packed = packedArchitectures();
    const others = packed === '' || packed === wanted ? '' : ` (it has one for: ${packed})`;
    fail(`this package has no program for ${wanted}${others}: ${binary} is missing`);
  }
  return binary;
}

/* Copying a package may lose the executable bit. To run a copy elsewhere would leave it behind, so the bit is set here or not at all. */
function ensureExecutable(binary) {
  try {
    fs.accessSync(binary, fs.constants.X_OK);
    return;
  } catch {
    /* Tried again below. */
  }
  try {
    fs.chmodSync(binary, 0o755);
    fs.accessSync(binary, fs.constants.X_OK);
  } catch (error) {
    fail(`${binary} is not executable and cannot be made so (${error.code}): chmod +x it, or move it off a file system mounted noexec`);
  }
}

function readHeader(binary) {
  const fd = fs.openSync(binary, 'r');
  try {
    const header = Buffer.alloc(4096);
    return { size: fs.fstatSync(fd).size, header: header.subarray(0, fs.readSync(fd, header, 0, header.length, 0)) };
  } finally {
    fs.closeSync(fd);
  }
}

/* The program that starts the binary: the C library's loader. null: there is none, it is static. */
function interpreterOf(header) {
  const table = Number(header.readBigUInt64LE(32));
  const entrySize = header.readUInt16LE(54);
  const entries = header.readUInt16LE(56);
  for (let i = 0; i < entries; i++) {
    const entry = table + i * entrySize;
    if (header.readUInt32LE(entry) === PT_INTERP) {
      const start = Number(header.readBigUInt64LE(entry + 8));
      const length = Number(header.readBigUInt64LE(entry + 32));
      return header.toString('latin1', start, start + length - 1);
    }
  }
  return null;
}

/* What keeps the kernel from running the file, or null. */
function problemOf({ size, header }) {
  const isElf64 = header.length >= 64 && header.readUInt32BE(0) === 0x7f454c46 && header[4] === 2 && header[5] === 1;
  if (!isElf64) return 'is not a 64-bit Linux program';
  const machine = header.readUInt16LE(18);
  if (machine !== MACHINES[process.arch]) return `is not a program for ${process.arch} (its ELF machine is ${machine})`;
  /* The section table is the end of the file. */
  const end = Number(header.readBigUInt64LE(40)) + header.readUInt16LE(58) * header.readUInt16LE(60);
  if (size < end) return `is damaged: ${size} of ${end} bytes are there`;
  const interpreter = interpreterOf(header);
  if (interpreter !== null && !fs.existsSync(interpreter)) {
    return `needs the GNU C library, and ${interpreter} is not here (a musl system such as Alpine cannot run it)`;
  }
  return null;
}

function checkBinary(binary) {
  let problem;
  try {
    problem = problemOf(readHeader(binary));
  } catch (error) {
    problem = error.code === 'ERR_OUT_OF_RANGE' ? 'is damaged: its headers are wrong' : `cannot be read (${error.code})`;
  }
  if (problem !== null) fail(`${binary} ${problem}`);
}

/*
 * Node without process.execve (before 22.15 and 23.11): the worker is a child with the same files. Signals go on to it, and
 * this process ends as it ended. After a SIGKILL here the worker sees the end of its input when the host closes it.
 */
function runAsChild(binary, args) {
  /* A terminal sends these to the worker itself, being in the same process group. */
  const fromTerminal = [0, 1, 2].some((fd) => require('node:tty').isatty(fd)) ? ['SIGINT', 'SIGQUIT'] : [];
  const forwarded = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'];
  let child;
  /* Before there is a worker: it may answer before the next line here runs, and be sent a signal. */
  for (const signal of forwarded) {
    process.on(signal, () => fromTerminal.includes(signal) || child.kill(signal));
  }
  child = require('node:child_process').spawn(binary, args, { stdio: 'inherit' });
  child.on('error', (error) => fail(`${binary} could not be started: ${error.message}`));

  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.exitCode = 128 + os.constants.signals[signal]; /* should the signal be one that is ignored here */
    process.kill(process.pid, signal);
  });
}

const binary = findBinary();
ensureExecutable(binary);
checkBinary(binary);
const args = process.argv.slice(2);
if (typeof process.execve === 'function') process.execve(binary, [binary, ...args], process.env);
else runAsChild(binary, args);
