"""Programs that stock's gradual types handle, by name; inputs are what they are annotated with."""

import torch
from torch import nn
from torch.fx.tensor_type import Dyn, TensorType

PROGRAMS: dict[str, type[nn.Module]] = {}


def program(cls: type[nn.Module]) -> type[nn.Module]:
    PROGRAMS[cls.__name__] = cls
    return cls


@program
class AddReshaped(nn.Module):
    def forward(self, x: Dyn, y: Dyn):
        return torch.add(torch.reshape(x, (1, 2)), torch.reshape(y, (2, 2)))


@program
class AddReshapedWrong(nn.Module):
    def forward(self, x: Dyn, y: TensorType((1, 2, 3))):
        return torch.add(torch.reshape(x, (2, 2)), torch.reshape(y, (3, 2)))


@program
class ReshapeStaticWrong(nn.Module):
    def forward(self, x: TensorType((2, 3))):
        return torch.reshape(x, (5, 2))


@program
class ReshapePartlyKnown(nn.Module):
    def forward(self, x: TensorType((Dyn, 3, 2))):
        return torch.reshape(x, (4, 6))


@program
class ReshapePartlyKnownWrong(nn.Module):
    def forward(self, x: TensorType((Dyn, 5))):
        return torch.reshape(x, (4, 6))


@program
class ReshapeRemaining(nn.Module):
    def forward(self, x: TensorType((4, 6))):
        return torch.reshape(x, (1, 8, -1))


@program
class ReshapeRemainingWrong(nn.Module):
    def forward(self, x: TensorType((4, 6))):
        return torch.reshape(x, (5, -1))


@program
class ConvReshape(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, kernel_size=2, stride=1, padding=2, groups=1, bias=False)

    def forward(self, x: Dyn):
        return self.conv1(torch.reshape(x, (1, 2, 10, 20)))


@program
class ConvReshapeWrong(ConvReshape):
    def forward(self, x: Dyn):
        return self.conv1(torch.reshape(x, (1, 3, 10, 20)))


@program
class ConvReshapeAdd(ConvReshape):
    def forward(self, x: Dyn, y: Dyn):
        return torch.add(self.conv1(torch.reshape(x, (1, 2, 10, 20))), y)


@program
class ConvReshapeAddKnown(ConvReshape):
    def forward(self, x: TensorType((5, Dyn)), y: TensorType((11, 21))):
        return torch.add(self.conv1(torch.reshape(x, (1, 2, 10, 20))), y)


@program
class ConvDyn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, kernel_size=(3, 5), stride=(2, 2), padding=(1, 2), dilation=2)

    def forward(self, x: Dyn):
        return self.conv1(x)


@program
class ConvStatic(ConvDyn):
    def forward(self, x: TensorType((2, 3, 20, 30))):
        return self.conv1(x)


@program
class ConvsThatDisagree(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.conv2 = nn.Conv2d(4, 5, 3)

    def forward(self, x: Dyn):
        return self.conv2(self.conv1(x))


@program
class ConvPoolFlattenLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(5, 120)
        self.pool2 = nn.AdaptiveAvgPool2d((6, 7))

    def forward(self, x: TensorType((4, 3, 32, Dyn))):
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = self.fc1(x)
        return torch.flatten(self.pool2(x), 1)


@program
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()

    def forward(self, x: Dyn):
        out = self.relu(self.bn1(self.conv1(x)))
        out += x
        return self.relu(out)


@program
class ResidualKnown(Residual):
    def forward(self, x: TensorType((Dyn, 4, Dyn, 7))):
        out = self.relu(self.bn1(self.conv1(x)))
        out += x
        return out


@program
class ResidualWrong(Residual):
    def forward(self, x: TensorType((3, 7, 5, 5))):
        out = self.bn1(self.conv1(x))
        out += x
        return out


@program
class LinearDyn(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 4)
        self.fc2 = nn.Linear(4, 5)

    def forward(self, x: Dyn):
        return self.fc2(self.fc1(x))


@program
class LinearKnown(LinearDyn):
    def forward(self, x: TensorType((2, Dyn, 3))):
        return self.fc2(self.fc1(x))


@program
class LinearWrong(LinearDyn):
    def forward(self, x: TensorType((2, 4))):
        return self.fc1(x)


@program
class FlattenDyn(nn.Module):
    def forward(self, x: TensorType((Dyn, 2, 3, 4))):
        return torch.flatten(x, 1)


@program
class FlattenUnknownPart(nn.Module):
    def forward(self, x: TensorType((2, Dyn, 3))):
        return torch.flatten(x, 0, 1)


@program
class AddBroadcast(nn.Module):
    def forward(self, x: TensorType((1, 2, 3, Dyn)), y: TensorType((2, 3, 4))):
        return torch.add(x, y)


@program
class AddUnknown(nn.Module):
    def forward(self, x: TensorType((Dyn, 2)), y: TensorType((3, Dyn))):
        return x + y


@program
class AddWrong(nn.Module):
    def forward(self, x: TensorType((4, 2)), y: TensorType((3, 2))):
        return x + y


@program
class AddNumber(nn.Module):
    def forward(self, x: TensorType((4, Dyn))):
        return 2 * (x + 1)


@program
class Rank(nn.Module):
    def forward(self, x: TensorType([1, 2])):
        return x.dim()


@program
class ViewSize(nn.Module):
    def forward(self, x: TensorType([Dyn])):
        return x.view(100).size()[0]


@program
class SizeTwoArguments(nn.Module):
    def forward(self, x: TensorType([Dyn, 2, Dyn])):
        return x.size(-2)


@program
class SizeOutside(nn.Module):
    def forward(self, x: TensorType([Dyn, 2, Dyn])):
        return x.size(3)


@program
class Bmm(nn.Module):
    def forward(self, x: TensorType([Dyn, 2, 3]), y: TensorType([1, 3, 2])):
        return torch.bmm(x, y)


@program
class BmmWrong(nn.Module):
    def forward(self, x: TensorType([2, 3, 3]), y: TensorType([1, 3, 4])):
        return torch.bmm(x, y)


@program
class Transposed(nn.Module):
    def forward(self, x: TensorType([1, Dyn, 3, 4])):
        return x.transpose(1, 3)


@program
class TransposedWrong(nn.Module):
    def forward(self, x: TensorType([1, 2])):
        return x.transpose(0, 3)


@program
class Selected(nn.Module):
    def forward(self, x: TensorType([2050, 1024]), y: Dyn):
        return x.index_select(0, y)


@program
class Device(nn.Module):
    def forward(self, x: TensorType([1, 2, 3])):
        getattr = x.device
        return x.to(getattr)


@program
class Expanded(nn.Module):
    def forward(self, x: TensorType([1, 4])):
        size = x.size()
        return x.expand(size[-1], 4)


@program
class GetItemTensor(nn.Module):
    def forward(self, x: TensorType([4, Dyn])):
        return x[(None, None, slice(None, None, None), slice(None, None, None))]


@program
class GetItemTensorMiddle(nn.Module):
    def forward(self, x: TensorType([Dyn, 4])):
        return x[(slice(None, None, None), None, slice(None, None, None))]


@program
class Arange(nn.Module):
    def forward(self, x: TensorType([2, 4])):
        return torch.arange(x.size()[-1])


@program
class ArangeUnknown(nn.Module):
    def forward(self, x: TensorType([2, Dyn])):
        return torch.arange(x.size()[-1]) + 1


@program
class SizeAdd(nn.Module):
    def forward(self, x: TensorType([2, 4])):
        return x.to().size()[-1] + 1


@program
class FullSize(nn.Module):
    def forward(self, x: TensorType([2, 4])):
        size = x.size()
        return torch.full((size[-1], 3), 7)


@program
class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(256, 10)

    def forward(self, x: TensorType([2, Dyn])):
        return self.embed(x)


@program
class EmbeddedView(Embedded):
    def forward(self, x: TensorType([2, 4])):
        last = x.size()[-1]
        return self.embed(x.view(-1, last)) * 32.0


@program
class MaskedFill(nn.Module):
    def forward(self, x: TensorType([2, 4])):
        size = x.size()
        last = size[-1]
        arange = torch.arange(last)
        view = x.view(-1, last)
        lt = arange > view
        return x.masked_fill_(lt, 0)


@program
class CumSum(nn.Module):
    def forward(self, x: TensorType([Dyn, 4, 3])):
        return torch.cumsum(x, 1)


@program
class CumSumWrong(nn.Module):
    def forward(self, x: TensorType([Dyn, 4, 3])):
        return torch.cumsum(x, 3)


@program
class LayerNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.LayerNorm((16,))

    def forward(self, x: Dyn):
        return self.l(x)


@program
class LayerNormedWrong(LayerNormed):
    def forward(self, x: TensorType([10, 10])):
        return self.l(x)


@program
class LayerNormedFunction(nn.Module):
    def forward(self, x: TensorType([10, Dyn])):
        return torch.nn.functional.layer_norm(x, (16,))


@program
class NotEqualAsInts(nn.Module):
    def forward(self, x: TensorType([Dyn, 2]), y: TensorType([3, Dyn])):
        return torch.ne(x, y).int().type_as(y).long()


@program
class Multiplied(nn.Module):
    def forward(self, x: TensorType([4, 1]), y: TensorType([Dyn, 5])):
        return x * y


@program
class Softmaxed(nn.Module):
    def forward(self, x: TensorType([4, Dyn])):
        x = torch.nn.functional.softmax(torch.nn.functional.gelu(x), dim=1)
        return torch.nn.functional.dropout(x.contiguous(), p=0.1)


@program
class Less(nn.Module):
    def forward(self, x: TensorType([2, 4]), y: TensorType([2, 4])):
        return x < y


# Conditions: the node that is asked about is the last one.
CONDITIONS: dict[str, type[nn.Module]] = {}


def condition(cls: type[nn.Module]) -> type[nn.Module]:
    CONDITIONS[cls.__name__] = cls
    return cls


@condition
class RankIsThree(nn.Module):
    def forward(self, x: TensorType([32, 4, 4])):
        return x.dim() == 3


@condition
class RankIsTwo(nn.Module):
    def forward(self, x: TensorType([32, 4, 4])):
        return x.dim() == 2


@condition
class LastIsLarge(Embedded):
    def forward(self, x: TensorType([Dyn, 4])):
        size = x.size()
        last = size[-1]
        view = x.view(-1, last)
        self.embed(view) * 32.0
        return size[-1] > 1


@condition
class LastIsSmall(nn.Module):
    def forward(self, x: TensorType([Dyn, 4])):
        return x.size()[-1] < 1


@condition
class UnknownIsLarge(nn.Module):
    def forward(self, x: TensorType([Dyn, 4])):
        return x.size()[0] > 1


@condition
class TakenForASize(nn.Module):
    def forward(self, x: Dyn):
        return x > 1


@condition
class ShapeDiffers(nn.Module):
    def forward(self, x: TensorType([32, 4, 4])):
        return x.size() != (32, 4, 4)


@condition
class ShapeDiffersIndeed(nn.Module):
    def forward(self, x: TensorType([32, 4, 4])):
        return x.size() != (32, 4, 5)


@condition
class ShapeOfFourDiffers(nn.Module):
    def forward(self, x: TensorType([Dyn, 4, 4, 1])):
        return x.size() != (32, 4, 4, 1)


@condition
class SizesEqual(nn.Module):
    def forward(self, x: TensorType([Dyn, 4]), y: TensorType([4, Dyn])):
        return x.size(1) == y.size(0)
