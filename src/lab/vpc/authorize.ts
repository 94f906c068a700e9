// What a caller may do: the lab's own key everything, an instance's role what the settings list.
// Fails with UnauthorizedOperation, which names the caller and the action.
import type { Caller } from './context.ts';
import { Ec2Error } from './errors.ts';

export function authorize(caller: Caller, action: string, roleActions: 'all' | readonly string[]): void {
  if (caller.kind === 'admin' || roleActions === 'all') return;
  const allowed = roleActions.some((one) =>
    one.endsWith('*') ? action.startsWith(one.slice(0, -1)) : one === action,
  );
  if (!allowed) {
    throw new Ec2Error(
      'UnauthorizedOperation',
      `You are not authorized to perform this operation. User: ${caller.arn} is not authorized to perform: ec2:${action} because no identity-based policy allows the ec2:${action} action`,
    );
  }
}
