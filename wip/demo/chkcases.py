# every test and case that the tests page names exists
import re,os
T=os.environ.get('T','/work/scratch/wiptests')+'/tools/testing/selftests/vfio/'
s=open('/work/scratch/wipdemo/Documentation/driver-api/vfio-pci-bar-access-tests.rst').read()
s=re.sub(r'\n {7}(?! )',' ',s)
seen={}
for f,c in re.findall(r'``(vfio_pci_\w+_test)``(?:: ([a-z0-9_, ]+))?',s):
    p=T+f+'.c'
    if not os.path.exists(p): print('no file',f); continue
    have=set(re.findall(r'^TEST(?:_F)?\((?:\w+, )?(\w+)\)',open(p).read(),re.M))
    for x in (c or '').split(','):
        x=x.strip()
        if x and x not in have: print('no case',f,x)
        seen.setdefault(f,set()).add(x)
for f in seen:
    have=set(re.findall(r'^TEST(?:_F)?\((?:\w+, )?(\w+)\)',open(T+f+'.c').read(),re.M)) if os.path.exists(T+f+'.c') else set()
    print(f,'not named:',sorted(have-seen[f]))
