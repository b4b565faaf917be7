package dev.toolkit.trainer

import dev.toolkit.trainer.engine.Engine
import org.junit.After
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.rules.TemporaryFolder
import java.io.File

/** The app with the engine that `make android` packs as its child, on a phone with memory to spare; no run is left after each test. */
abstract class ChildCase {
    @get:Rule val temporary = TemporaryFolder()
    protected lateinit var app: TrainerApp
    protected val libraries = File(System.getProperty("toolkit.engine")!!)

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
        Engine.attach(libraries)
        memory(4000)
        assertTrue("the packed engine is the one of this process", Engine.available && Engine.isChild)
    }

    @After
    fun end() {
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        Engine.attach(null)
    }

    protected fun memory(mb: Long) = Fixtures.memory(app, mb)
}
