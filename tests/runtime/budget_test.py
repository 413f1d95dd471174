import threading
import time

from dcgan_inpaint.runtime import budget


def test_amounts_stay_within_the_limit_and_a_larger_one_is_alone():
  shared, lock = budget.Budget(10), threading.Lock()
  held, sums = [], []

  def work(amount):
    with shared.hold(amount):
      with lock:
        held.append(amount)
        sums.append((sum(held), len(held)))
      time.sleep(0.002)
      with lock:
        held.remove(amount)

  threads = [
    threading.Thread(target=work, args=(amount,))
    for amount in [3, 4, 25, 1, 10, 6, 2] * 5
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(20)
  assert len(sums) == 35 and not held
  assert all(total <= 10 or count == 1 for total, count in sums)
  assert max(count for _, count in sums) > 1


def test_what_fails_holds_nothing():
  shared = budget.Budget(1)
  for _ in range(3):
    try:
      with shared.hold(1):
        raise KeyError
    except KeyError:
      pass
