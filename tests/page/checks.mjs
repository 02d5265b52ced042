// What was checked, by group, and what did not hold.
export class Checks {
  groups = new Map();

  check(group, where, holds, what) {
    if (!this.groups.has(group)) this.groups.set(group, {made: 0, failed: []});
    const of = this.groups.get(group);
    ++of.made;
    if (!holds) of.failed.push(`${where}: ${what}`);
  }

  // Prints a line a group; whether all held.
  summary() {
    let passed = 0, failed = 0;
    for (const [name, group] of this.groups) {
      console.log(`${group.failed.length ? 'FAILED' : 'ok    '} ${name}: ${group.made - group.failed.length} of ${group.made}`);
      for (const line of group.failed.slice(0, 8)) console.log(`         ${line}`);
      if (group.failed.length > 8) console.log(`         … and ${group.failed.length - 8} more`);
      failed += group.failed.length;
      passed += group.made - group.failed.length;
    }
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 && passed > 0;
  }
}
