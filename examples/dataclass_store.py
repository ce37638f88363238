"""A dataclass as the store: tasks read and write its attributes, which a type checker knows.

Tasks get the object itself. Cano makes steps atomic only for dicts and `MemoryStore`s. So a task should change the
object last, after everything that can fail.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from cano import Workflow


class State(Enum):
    ACCRUE = auto()
    PAY = auto()
    PAID_OFF = auto()
    HOPELESS = auto()


@dataclass
class Loan:
    cents: int
    monthly_payment: int
    yearly_percent: int
    months: int = 0
    interest: int = 0
    log: list[str] = field(default_factory=list)


flow = Workflow(State.ACCRUE, name="loan").add_exit_states([State.PAID_OFF, State.HOPELESS])


@flow.on(State.ACCRUE)
async def accrue(loan: Loan) -> Literal[State.PAY, State.HOPELESS]:
    interest = round(loan.cents * loan.yearly_percent / 1200)
    if interest >= loan.monthly_payment:
        return State.HOPELESS
    loan.cents += interest
    loan.interest += interest
    return State.PAY


@flow.on(State.PAY)
async def pay(loan: Loan) -> Literal[State.ACCRUE, State.PAID_OFF]:
    payment = min(loan.monthly_payment, loan.cents)
    loan.cents -= payment
    loan.months += 1
    loan.log.append(f"month {loan.months:2}: paid {payment / 100:7.2f}, still owed {loan.cents / 100:8.2f}")
    return State.ACCRUE if loan.cents else State.PAID_OFF


if __name__ == "__main__":
    for loan in (Loan(100_000, 20_000, 12), Loan(100_000, 900, 12)):
        state = flow.orchestrate_sync(loan)
        for line in loan.log:
            print(line)
        print(f"{state.name} after {loan.months} months, {loan.interest / 100:.2f} interest")
