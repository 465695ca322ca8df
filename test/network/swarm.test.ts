import { hyperswarmNetwork } from '../../lib/hyper/swarm.ts'
import { privateDht } from '../helpers/dht.ts'
import { networkSuite } from './suite.ts'

networkSuite('hyperswarm', async (t) => {
  const bootstrap = [await privateDht(t)]
  return () => hyperswarmNetwork({ bootstrap })
})
