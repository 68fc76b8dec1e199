// Which halves of a composite signature have to be right for the whole to count as right: `compositeVerification` of a
// policy. Both halves must be there whatever the rule says.

/** From strict to loose; the two in the middle do not compare. */
export const COMPOSITE_RULES = ['all', 'classical-required', 'pqc-required', 'any'] as const;
export type CompositeVerification = (typeof COMPOSITE_RULES)[number];

/** Whether each half is right. */
export interface HalvesRight {
  readonly classical: boolean;
  readonly pqc: boolean;
}

const requires = (rule: CompositeVerification): HalvesRight => ({
  classical: rule === 'all' || rule === 'classical-required',
  pqc: rule === 'all' || rule === 'pqc-required',
});

const ruleOf = ({ classical, pqc }: HalvesRight): CompositeVerification => {
  if (classical && pqc) return 'all';
  return classical ? 'classical-required' : pqc ? 'pqc-required' : 'any';
};

/** The rule that requires whatever one of these does: of the two in the middle together, both halves. */
export const strictestRule = (rules: readonly CompositeVerification[]): CompositeVerification =>
  ruleOf({
    classical: rules.some((rule) => requires(rule).classical),
    pqc: rules.some((rule) => requires(rule).pqc),
  });

/** Whether `rule` accepts nothing that `platform` does not. */
export const narrowsRule = (platform: CompositeVerification, rule: CompositeVerification): boolean =>
  strictestRule([platform, rule]) === rule;

/** `partial`: the rule accepts it, but one half is wrong. */
export const judgeHalves = (rule: CompositeVerification, right: HalvesRight): 'right' | 'partial' | 'wrong' => {
  if (right.classical && right.pqc) return 'right';
  const needed = requires(rule);
  const lacks = (needed.classical && !right.classical) || (needed.pqc && !right.pqc);
  return lacks || !(right.classical || right.pqc) ? 'wrong' : 'partial';
};
