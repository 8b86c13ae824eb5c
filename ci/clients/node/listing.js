// The list of calls and answers.

let calls = 0;

const begin = (client) => console.log(`| ${client} | answer |\n| --- | --- |`);
const list = (call, answer) => { calls += 1; console.log(`| ${call} | ${answer} |`); };
const end = (client) => console.log(`\n${client}: ${calls} passed, 0 failed\n`);

module.exports = { begin, end, list };
