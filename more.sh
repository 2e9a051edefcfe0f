cat > net2.py <<'F'
import torch, sys
from torch import nn
import numpy as np
class Net(nn.Module):
    def __init__(self):
        super().__init__(); self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    def forward(self, x): return self.body(x)
def tup():
    return (Net(), 3)
class Tup(Net):
    def forward(self, x): return self.body(x), x
def one(): return {'x': np.random.rand(100,8,8), 'y': np.zeros(100)}
if __name__ == "__main__":
    torch.save(Net(), "pickled.pt")
    p = torch.export.export(Net().eval(), (torch.zeros(4,1,8,8),), dynamic_shapes=({0: torch.export.Dim('n')},))
    torch.export.save(p, "p.pt2")
    open("cut.pt2","wb").write(open("p.pt2","rb").read()[:2000])
    open("empty.pt","wb")
F
python net2.py
B="blankcheck audit --preset smoke --quiet --data digits --out out/21"
$B --model net2.py:Net --weights pickled.pt; echo "rc $?"
$B --model net2.py:Net --weights pickled.pt --unsafe-pickle; echo "rc $?"
$B --model pickled.pt --unsafe-pickle; echo "rc $?"
$B --model pickled.pt ; echo "rc $?"
$B --model cut.pt2; echo "rc $?"
$B --model net2.py:Net --weights empty.pt; echo "rc $?"
$B --model net2.py:Net --weights .; echo "rc $?"
$B --model net2.py:tup; echo "rc $?"
$B --model net2.py:Tup; echo "rc $?"
blankcheck audit --preset smoke --model net2.py:Net --data net2.py:one --out out/21;  echo "rc $?"
blankcheck audit --preset smoke --model net2.py:Net --data npz:/tmp --out out/21;  echo "rc $?"
blankcheck audit --preset smoke --model net2.py --data digits --out out/21;  echo "rc $?"
