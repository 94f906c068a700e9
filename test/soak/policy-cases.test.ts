// The generated cases C01 to C30 on real packets, in every protocol and family of the lab: one of each id in npm test,
// all in test:soak.
import { after, before, describe, it } from 'node:test';
import { skip } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { runCase } from '../support/policy-case.ts';
import { generatedCases } from '../support/policy-cases-c.ts';
import { PolicyGround } from '../support/policy-ground.ts';
import { oneOfEach } from '../support/policy-sample.ts';
import { full } from '../support/storm.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const chosen = full ? generatedCases : oneOfEach(generatedCases, seed);

describe(`generated NetworkPolicies, ${chosen.length} of ${generatedCases.length}`, {
  skip,
  timeout: 1_200_000,
}, () => {
  const lab = new Lab('pol-gen');
  const ground = new PolicyGround(lab);
  before(async () => {
    await lab.up();
    await ground.start();
  });
  after(async () => {
    ground.close();
    await lab.down();
  });

  for (const one of chosen) it(`${one.id} ${one.title}`, () => runCase(ground, one));
});
